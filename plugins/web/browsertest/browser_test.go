// Package browsertest has package web's page looked at in a browser, and the site that `make site` makes: headless Chromium, with axe-core for contrast and the like. It is a module of its own, so that whoever has the
// page in a program gets none of that.
package browsertest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
	"github.com/ferrule-dev/ferrule/plugins/web"
)

// chromium starts a browser without a network: no name leads anywhere, and the only address that it may reach is this machine's.
func chromium(t *testing.T) context.Context {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		program = fixture.Tool(t, "chromium", "apt-get install chromium")
	}
	folder, err := os.MkdirTemp("", "chromium-") // for all that it writes, with a short name: there are sockets in it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.UserDataDir(filepath.Join(folder, "profile")), chromedp.Env("TMPDIR="+folder),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), chromedp.WSURLReadTimeout(time.Minute))
	if os.Getuid() == 0 {
		opts = append(opts, chromedp.NoSandbox) // which root cannot have
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx, chromedp.WithLogf(t.Logf))
	t.Cleanup(end)
	require.NoError(t, chromedp.Do(ctx))
	return ctx
}

const more = 6 // plug-ins that do nothing

// hostile is the text of an error that would run as HTML, in a browser that took it for that.
const hostile = `<img src="https://elsewhere.example/x" onerror="document.body.textContent='taken'"><script>document.title='taken'</script>`

// system is one of some of each kind: in Go with long names, in C in this process and isolated, one whose worker has crashed, one that is left out, and two that fail.
func system(t *testing.T, opts ...plugins.Option) *plugins.System {
	t.Helper()
	fixture.Loadable(t)
	folder := t.TempDir()
	for _, tag := range []string{"aaaa", "bbbb"} {
		fixture.Variant(t, "system", filepath.Join(folder, tag+fixture.Ext()), "aaaa", tag)
	}
	fixture.Variant(t, "system", filepath.Join(folder, "dddd"+fixture.Ext()), "aaaa", "dddd", "start:ok", "start:no")
	text := "folders: [" + strconv.Quote(folder) + "]\nplugins: [plugin_aaaa, plugin_dddd, hostile, {name: plugin_bbbb, isolate: {sandbox: none}}"
	long := strings.Repeat("a-name-without-an-end-", 5) + "x"
	all := []plugins.Option{plugins.Logger(slog.New(slog.DiscardHandler)),
		plugins.Builtin(&builtin.Plugin{Name: long, Version: "1.0.0-candidate.20260101+build.0123456789abcdef", Hooks: []builtin.Function{{Name: "piped",
			Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }}}}),
		plugins.Builtin(&builtin.Plugin{Name: "hostile", Version: "1.0.0",
			Hooks: []builtin.Function{{Name: "piped", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }}},
			Start: func(context.Context, []byte) (any, error) { return nil, errors.New(hostile) }})}
	text += ", " + long
	for i := range more {
		name := fmt.Sprintf("more_%02d", i)
		all = append(all, plugins.Builtin(&builtin.Plugin{Name: name, Version: "1.0.0"}))
		text += ", " + name
	}
	path := filepath.Join(folder, "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text+"]\n"), 0o600))
	sys := plugins.New("shop", "1.4.0", append(append(all, plugins.Config(path)), opts...)...)
	t.Cleanup(func() { require.NoError(t, sys.Close()) })
	piped := plugins.Pipe[[]byte](sys, "piped", plugins.OnError(plugins.Skip), plugins.Breaker(2, time.Hour))
	require.NoError(t, sys.Start(t.Context()))
	for _, in := range []string{"", "bbbb=crash", "aaaa=fail", "aaaa=fail", ""} {
		_, err := piped.Call(t.Context(), []byte(in))
		require.NoError(t, err)
	}
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_, _ = piped.Call(context.Background(), nil)
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-over })
	return sys
}

// page is the page in a tab of its own.
type page struct {
	t   *testing.T
	ctx context.Context
	url string

	mu     sync.Mutex
	faults []string // what the browser finds wrong
	asked  []string // the addresses of all requests
}

// open opens the page, as wide as that, in a colour scheme.
func open(t *testing.T, ctx context.Context, url string, width int64, scheme string) *page {
	t.Helper()
	p := &page{t: t, url: url}
	ctx, end := chromedp.NewContext(ctx, chromedp.WithListener(p.hears))
	t.Cleanup(end)
	p.ctx = ctx
	call(p, log.Enable, cdp.Empty{})
	call(p, network.Enable, network.EnableParams{})
	call(p, runtime.Enable, cdp.Empty{})
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: width < 500})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	p.do(chromedp.Navigate(url))
	return p
}

// hears notes an event of the browser's.
func (p *page) hears(ev any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		p.faults = append(p.faults, fmt.Sprintf("%s: %s", ev.ExceptionDetails.Text, said(ev.ExceptionDetails.Exception)))
	case *runtime.EventConsoleAPICalled:
		p.faults = append(p.faults, fmt.Sprintf("console.%s: %s", ev.Type, said(ev.Args...)))
	case *log.EventEntryAdded:
		p.faults = append(p.faults, fmt.Sprintf("%s: %s (%s)", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL))
	case *network.EventRequestWillBeSent:
		p.asked = append(p.asked, ev.Request.URL)
	}
}

// said are values of JavaScript in words.
func said(values ...*runtime.RemoteObject) string {
	var words []string
	for _, v := range values {
		if v != nil {
			words = append(words, cmp.Or(v.Description, string(v.Value)))
		}
	}
	return strings.Join(words, " ")
}

// call is a command of the browser's protocol.
func call[P, R any](p *page, command cdp.Command[P, R], params P) {
	p.t.Helper()
	_, err := chromedp.Call(p.ctx, command, params)
	require.NoError(p.t, err)
}

func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, actions...))
}

// value is what an expression of JavaScript is.
func value[T any](p *page, expression string) (v T) {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(p.t, err)
	return v
}

// until waits for an expression to be true. While the tab goes from a page to the next one, which the expression may wait for, the browser has an error for it: of the page that is left.
func (p *page) until(expression string) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		is, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](expression, chromedp.EvalAwaitPromise))
		if err == nil && is {
			return
		}
		if of := (*cdproto.Error)(nil); err != nil && !(errors.As(err, &of) && slices.Contains(leavesAPage, of.Message)) {
			require.NoError(p.t, err, expression)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("out of time: %s; on the page: %s", expression, value[string](p, "document.body.innerText"))
		}
	}
}

// leavesAPage are the browser's errors for an expression whose page is left meanwhile.
var leavesAPage = []string{"Inspected target navigated or closed", "Execution context was destroyed.", "Cannot find context with specified id"}

// first waits for the plug-in to be the first of the table.
func (p *page) first(name string) {
	p.t.Helper()
	p.until(fmt.Sprintf("document.querySelector('#rows tr td').textContent === %q", name))
}

// axe is the program that looks for what people cannot read or reach.
func axe(t *testing.T) string {
	t.Helper()
	packed, err := os.ReadFile("testdata/axe.min.js.gz")
	require.NoError(t, err)
	r, err := gzip.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(text)
}

// overflows are what sticks out of the window, or has more in it than it shows.
const overflows = `(() => {
	const found = [];
	const wide = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth > wide) found.push("the page is " + document.documentElement.scrollWidth + " wide, of " + wide);
	for (const e of document.body.querySelectorAll("*")) {
		const box = e.getBoundingClientRect();
		if (box.width === 0) continue;
		const name = e.tagName + "#" + e.id + " " + e.textContent.slice(0, 40);
		if (box.left < -0.5 || box.right > wide + 0.5) found.push(name + ": from " + box.left + " to " + box.right + ", of " + wide);
		else if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline") found.push(name + ": " + e.scrollWidth + " in " + e.clientWidth);
	}
	return found;
})()`

// checked runs axe: nothing is wrong, and no contrast could not be measured.
func (p *page) checked(axe string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](axe))
	type finding struct {
		ID    string
		Nodes []struct {
			HTML           string
			FailureSummary string
		}
	}
	found := value[struct {
		Violations, Incomplete []finding
		Passes                 []finding
	}](p, `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})`)
	assert.Empty(p.t, found.Violations)
	for _, f := range found.Incomplete {
		assert.NotEqual(p.t, "color-contrast", f.ID, "%v", f.Nodes)
	}
	measured := 0
	for _, f := range found.Passes {
		if f.ID == "color-contrast" {
			measured = len(f.Nodes)
		}
	}
	assert.Greater(p.t, measured, 50, "contrast was measured of each text")
}

// TestPageInChromium: the page shows what the system is and does, fits the window, can be read, and has nothing from elsewhere.
func TestPageInChromium(t *testing.T) {
	ctx, program := chromium(t), axe(t)
	sys := system(t, plugins.Counting())
	mux := http.NewServeMux()
	mux.Handle("/plugins/", http.StripPrefix("/plugins", web.Handler(sys)))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, width := range []int64{360, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			t.Run(fmt.Sprint(width, " ", scheme), func(t *testing.T) {
				p := open(t, ctx, server.URL+"/plugins/", width, scheme)
				cell := func(name, title string) string {
					return fmt.Sprintf("[...document.querySelectorAll('#rows tr')].find(r => r.cells[0].textContent === %q).querySelector('td[data-title=%q]').textContent", name, title)
				}
				p.until(fmt.Sprintf("document.querySelectorAll('#rows tr').length === %d", 5+more))
				p.until("Number(" + cell("plugin_bbbb", "Calls/s") + ") > 1")
				assert.Equal(t, "Plug-ins of shop 1.4.0", value[string](p, "document.querySelector('h1').innerText"))
				assert.Regexp(t, fmt.Sprintf(`^%d plug-ins, 2 failed, process \d+, `, 5+more), value[string](p, "document.getElementById('summary').innerText"))
				for _, want := range [][3]string{{"plugin_aaaa", "Errors", "2"}, {"plugin_bbbb", "Crashed", "1"}, {"plugin_bbbb", "Restarts", "1"}, {"plugin_bbbb", "Runs", "isolated"},
					{"plugin_bbbb", "State", "started"}, {"plugin_dddd", "State", "failed"}, {"plugin_aaaa", "Memory", "–"}, {"plugin_dddd", "Mean", "–"}, {"plugin_dddd", "Calls", "0"}} {
					assert.Equal(t, want[2], value[string](p, cell(want[0], want[1])), "%v", want)
				}
				assert.Regexp(t, `^[0-9.]+ MiB$`, value[string](p, cell("plugin_bbbb", "Memory")))
				assert.Regexp(t, `^[0-9.]+ [nµm]?s$`, value[string](p, cell("plugin_bbbb", "Mean")))
				notes := value[string](p, "document.getElementById('notes').innerText")
				assert.Contains(t, notes, hostile, "text, and no HTML")
				assert.Regexp(t, `plugin_aaaa: its hook piped is left out for 3[56]\d\d s`, notes)
				calls := value[string](p, cell("plugin_bbbb", "Calls"))
				p.until(cell("plugin_bbbb", "Calls") + " !== " + strconv.Quote(calls))

				assert.Equal(t, scheme == "dark", value[bool](p, "getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 27)'"))
				assert.Equal(t, width > 1000, value[bool](p, "document.querySelector('thead').offsetHeight > 0"), "a table, or cards")
				assert.Empty(t, value[[]string](p, overflows))
				p.checked(program)
				if width > 1000 { // the narrowest table, and the widest cards
					for _, other := range []int64{1153, 1152} {
						call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: other, Height: 800, DeviceScaleFactor: 1})
						assert.Equal(t, other > 1152, value[bool](p, "document.querySelector('thead').offsetHeight > 0"))
						assert.Empty(t, value[[]string](p, overflows), "%d", other)
					}
					call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1})
				}

				if width > 1000 {
					press := func(title string) {
						p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("[...document.querySelectorAll('th button')].find(b => b.textContent === %q).click()", title)))
					}
					press("Errors")
					p.first("plugin_aaaa")
					assert.Equal(t, "descending", value[string](p, "document.querySelector('th[aria-sort]').ariaSort"))
					press("State")
					p.first("hostile")
					press("Name")
					press("Name")
					p.first("plugin_dddd")
					assert.Equal(t, "descending", value[string](p, "document.querySelector('th[aria-sort]').ariaSort"))
				} else {
					choose := func(title string) {
						p.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => { const s = document.getElementById("sort");
							s.value = [...s.options].find(o => o.text === %q).value; s.dispatchEvent(new Event("change")); })()`, title)))
					}
					choose("Memory")
					p.first("plugin_bbbb")
					choose("Name")
					p.do(chromedp.Click("#turn"))
					p.first("plugin_dddd")
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				assert.Empty(t, p.faults)
				assert.Greater(t, len(p.asked), 3)
				for _, url := range p.asked {
					assert.True(t, strings.HasPrefix(url, server.URL+"/plugins/") || url == "data:,", url)
				}
			})
		}
	}
}

// TestPageInChromiumWithoutNumbers: the page says that nothing is counted, and that the application has gone; both can be read.
func TestPageInChromiumWithoutNumbers(t *testing.T) {
	ctx, program := chromium(t), axe(t)
	server := httptest.NewServer(web.Handler(system(t)))
	defer server.Close()
	for _, scheme := range []string{"dark", "light"} {
		p := open(t, ctx, server.URL, 360, scheme)
		p.until("document.getElementById('warnings').innerText === 'Calls are not counted: the application has no plugins.Counting().'")
		assert.Equal(t, 0, value[int](p, "[...document.querySelectorAll('td[data-title^=Calls], td[data-title=Errors]')].filter(c => c.textContent !== '–').length"))
		if scheme == "light" {
			server.CloseClientConnections()
			server.Close()
			p.until("/^The application does not answer\\.\\s+What follows is of .*\\.$/.test(document.getElementById('warnings').innerText)")
			assert.Equal(t, 5+more, value[int](p, "document.querySelectorAll('#rows tr').length"), "what was there stays")
		}
		assert.Empty(t, value[[]string](p, overflows))
		p.checked(program)
	}
}

// TestPageInChromiumOfFaults: what the application answers, and what is wrong with it, is said as it is; that it does not answer is said only where it does not.
func TestPageInChromiumOfFaults(t *testing.T) {
	ctx := chromium(t)
	h := web.Handler(plugins.New("shop", "1.4.0", plugins.Counting()))
	var answer atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if say := answer.Load().(func(http.ResponseWriter)); say != nil && r.URL.Path == "/stats.json" {
			say(w)
			return
		}
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	says := func(status int, text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { http.Error(w, text, status) }
	}
	answer.Store((func(http.ResponseWriter))(nil))
	p := open(t, ctx, server.URL, 1280, "light")
	p.until("document.getElementById('summary').innerText.startsWith('0 plug-ins')")
	for _, c := range []struct {
		answer func(http.ResponseWriter)
		want   string
	}{
		{says(http.StatusMisdirectedRequest, "found another name"), "The application says: found another name"},
		{says(http.StatusOK, `{"format":2}`), "This page and the application are of different versions: load the page again."},
		{says(http.StatusOK, `null`), "This page and the application are of different versions: load the page again."},
		{says(http.StatusOK, `<html>`), "The answer is no picture of plug-ins: something else is where the application was."},
		{says(http.StatusOK, `{"format":1}`), "Cannot read properties of undefined"}, // a fault of the page, or of the application
		{func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "The application does not answer."},
	} {
		answer.Store(c.answer)
		p.until(fmt.Sprintf("document.getElementById('warnings').firstChild?.textContent.startsWith(%q) === true", c.want))
		text := value[string](p, "document.getElementById('warnings').innerText")
		assert.Equal(t, strings.HasPrefix(c.want, "The application does not"), strings.Contains(text, "does not answer"), text)
		assert.Contains(t, text, "What follows is of ")
	}
	answer.Store((func(http.ResponseWriter))(nil))
	p.until("document.getElementById('warnings').innerText === ''")
}

// TestPageInChromiumWithLargeNumbers: there is room for all that a program can come to in years.
func TestPageInChromiumWithLargeNumbers(t *testing.T) {
	ctx := chromium(t)
	h := web.Handler(plugins.New("shop", "1.4.0"))
	const many = 1e12
	calls := &monitor.Calls{Calls: many, Failed: 1e9, Crashed: 1e6, Late: 1e6, Timed: many / 64, Time: 1e18, Longest: 12345 * time.Second}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats.json" {
			h.ServeHTTP(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(&monitor.Snapshot{Format: monitor.Format, Time: time.Now(), App: "shop", Version: "1.4.0", Counting: true, Memory: 1 << 42, PID: 1 << 22,
			Plugins: []monitor.Plugin{{Name: strings.Repeat("name", 30), Version: strings.Repeat("1.2.3-", 10), State: plugins.StateDiscovered, Runs: "group", Group: strings.Repeat("group", 10),
				Calls: calls, Restarts: 1e6, Memory: 1023 << 30, Error: strings.Repeat("/a/long/path", 30)}}})
	}))
	defer server.Close()
	for _, width := range []int64{360, 1280} {
		p := open(t, ctx, server.URL, width, "light")
		p.until("document.querySelectorAll('#rows tr').length === 1")
		assert.Empty(t, value[[]string](p, overflows))
	}
}

// TestUntilThePageIsAnother: what waits for something of a page goes on while the tab goes from page to page. Each of these is left while an expression has no value yet.
func TestUntilThePageIsAnother(t *testing.T) {
	const last = "/20"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err == nil && r.URL.Path != last {
			_, _ = fmt.Fprintf(w, "<script>setTimeout(() => location.replace('/%d'), 50)</script>", n+1)
		}
	}))
	t.Cleanup(server.Close)
	p := open(t, chromium(t), server.URL+"/0", 1280, "light")
	p.until("new Promise(then => setTimeout(() => then(location.pathname === '" + last + "'), 45))")
	var of *cdproto.Error
	_, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("nothing.of.the.kind", chromedp.EvalAwaitPromise))
	require.Error(t, err)
	assert.NotErrorAs(t, err, &of, "an expression's own error is not of them")
}
