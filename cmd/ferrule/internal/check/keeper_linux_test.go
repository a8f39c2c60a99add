package check_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
)

// The keeper of a worker that runs Python is no process that the plug-in leaves, however long it takes to end.
func TestKeeperIsNotLeft(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there are no keepers on this architecture")
	}
	dir := t.TempDir()
	said, held := filepath.Join(dir, "said"), filepath.Join(dir, "held")
	verdict := make(chan *check.Verdict, 1)
	go func() {
		defer close(verdict)
		verdict <- checkScript(t, ".py", `# ferrule: name=s version=1 fn=f
import os, time
with open(`+strconv.Quote(said+".new")+`, "w") as file: file.write(str(os.getppid()))
os.rename(`+strconv.Quote(said+".new")+`, `+strconv.Quote(said)+`)
while not os.path.exists(`+strconv.Quote(held)+`): time.sleep(0.001)
raise ValueError("no way")
`, "open")
	}()
	var text []byte
	require.Eventually(t, func() (ok bool) {
		var err error
		text, err = os.ReadFile(said)
		return err == nil
	}, time.Minute, time.Millisecond)
	keeper, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	name, err := os.ReadFile("/proc/" + string(text) + "/comm")
	require.NoError(t, err)
	require.Contains(t, strings.TrimSpace(string(name)), "ferrule-k")
	runtime.LockOSThread() // which holds it
	defer runtime.UnlockOSThread()
	err = unix.PtraceSeize(keeper)
	if err == nil {
		err = unix.PtraceInterrupt(keeper)
	}
	if err == nil {
		_, err = unix.Wait4(keeper, nil, unix.WALL, nil)
	}
	require.NoError(t, os.WriteFile(held, nil, 0o600))
	if err == nil {
		time.Sleep(3 * time.Second) // which is more than the grace for what a plug-in has started
		_ = unix.PtraceDetach(keeper)
	}
	v := <-verdict
	if err == unix.EPERM {
		t.Skip("nothing may hold the keeper here: this needs the right to trace it")
	}
	require.NoError(t, err)
	require.NotNil(t, v)
	require.Len(t, v.Results[0].Findings, 1, "%+v", v.Results)
	assert.Contains(t, v.Results[0].Findings[0].Seen, "no way")
}
