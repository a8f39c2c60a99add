package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
	"github.com/ferrule-dev/ferrule/plugins/web"
)

// welcome is a plug-in that is compiled in.
var welcome = &builtin.Plugin{Name: "welcome", Version: "1.0.0", Hooks: []builtin.Function{{Name: "before_checkout",
	Call: func(context.Context, []byte) ([]byte, error) { return []byte("20"), nil }}}}

// An application with a page of its plug-ins; the test asks for the numbers as the page does.
func Example() {
	sys := plugins.New("shop", "1.4.0", plugins.Builtin(welcome), plugins.Counting())
	defer sys.Close()
	if err := sys.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/plugins/", http.StripPrefix("/plugins", web.Handler(sys)))

	server := httptest.NewServer(mux)
	defer server.Close()
	answer, err := http.Get(server.URL + "/plugins/stats.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	var seen monitor.Snapshot
	if err := json.NewDecoder(answer.Body).Decode(&seen); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(seen.App, seen.Plugins[0].Name, seen.Plugins[0].State)
	// Output:
	// shop welcome ready
}
