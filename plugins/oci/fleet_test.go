package oci_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/install"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/sign"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// asHost names the environment variable that makes the test's program a host of a fleet: it has the host in JSON.
const asHost = "FERRULE_TEST_HOST"

func TestMain(m *testing.M) {
	if text := os.Getenv(asHost); text != "" {
		var h host
		if err := json.Unmarshal([]byte(text), &h); err != nil {
			panic(err)
		}
		h.run()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// host is a process that installs what its lock names, into a store of its own.
type host struct {
	ID, Lock, Store, Key string
	Source               string
	Mirrors              []string
	Names                []string
	Jitter               time.Duration
}

// installed is what a host writes when it is ready to start, and again when it is done.
type installed struct {
	Digests []string      // of the files, by name
	Waited  time.Duration // before the first request
	Err     string
}

// run starts the host when its standard input ends.
func (h *host) run() {
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(installed{})
	_, _ = io.Copy(io.Discard, os.Stdin)
	var done installed
	if err := h.install(&done); err != nil {
		done.Err = err.Error()
	}
	_ = out.Encode(done)
}

func (h *host) install(done *installed) error {
	kept, err := store.Open(h.Store)
	if err != nil {
		return err
	}
	defer kept.Close()
	c := &config.Config{Path: filepath.Join(filepath.Dir(h.Lock), "config.yaml"), Registry: config.Registry{URL: h.Source, Mirrors: h.Mirrors, Keys: []string{h.Key}}}
	for _, name := range h.Names {
		c.Plugins = append(c.Plugins, config.Plugin{Name: name, Enabled: true, Permit: config.Permit{Connect: []int{443}}})
	}
	o, err := install.Configured(c, func(r config.Registry) (registry.Source, bool, error) {
		source, err := oci.New(r.URL, oci.Credentials(none), oci.Transport(h))
		return source, true, err
	})
	if err != nil {
		return err
	}
	wait := install.Jitter(h.Jitter)
	o.Store, o.First = kept, func(ctx context.Context) error {
		begin := time.Now()
		defer func() { done.Waited = time.Since(begin) }()
		return wait(ctx)
	}
	in, err := install.New(o)
	if err != nil {
		return err
	}
	result, err := in.Ensure(context.Background(), install.Wants(c, nil))
	if err != nil {
		return err
	}
	for _, name := range h.Names {
		done.Digests = append(done.Digests, result.Plugins[name].Digest)
	}
	return result.Err()
}

// hostHeader is the header of a request that says which host it is of.
const hostHeader = "X-Test-Host"

// RoundTrip sends a request with the host's name.
func (h *host) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(hostHeader, h.ID)
	return http.DefaultTransport.RoundTrip(r)
}

// front stands before a registry, counts what goes through, and at times refuses it.
type front struct {
	address        string
	requests, sent atomic.Int64 // sent are bytes, with headers

	mu     sync.Mutex
	asked  map[string][]request // by host
	busy   time.Duration        // is how long it refuses all, in each period from the first request on
	period time.Duration
	since  time.Time
}

// request is one of a host.
type request struct {
	at    time.Time
	path  string
	again time.Time // before this it is not to be sent again; zero where it was let through
}

func newFront(t *testing.T, behind string) *front {
	f := &front{asked: map[string][]request{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	transport.DisableCompression = true
	proxy.Transport = transport
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wait := f.ask(r); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
			http.Error(w, "busy", http.StatusTooManyRequests)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	server.Listener = &countedListener{server.Listener, &f.sent}
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(transport.CloseIdleConnections)
	f.address = server.Listener.Addr().String()
	return f
}

// ask counts a request, and says for how many whole seconds it is refused.
func (f *front) ask(r *http.Request) (wait time.Duration) {
	f.requests.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.busy > 0 {
		if f.since.IsZero() {
			f.since = now
		}
		if in := now.Sub(f.since) % f.period; in < f.busy {
			wait = (f.busy - in + time.Second - 1).Truncate(time.Second)
		}
	}
	asked := request{at: now, path: r.URL.Path}
	if wait > 0 {
		asked.again = now.Add(wait)
	}
	id := r.Header.Get(hostHeader)
	f.asked[id] = append(f.asked[id], asked)
	return wait
}

// counted are the requests and bytes of a time.
type counted struct{ requests, bytes int64 }

func (c counted) String() string {
	return fmt.Sprintf("%d, %.1f MB", c.requests, float64(c.bytes)/1e6)
}

// took returns what there was since it was asked before.
func (f *front) took() (c counted, asked map[string][]request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked, f.asked = f.asked, map[string][]request{}
	return counted{f.requests.Swap(0), f.sent.Swap(0)}, asked
}

// countedListener counts what is written to its connections.
type countedListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countedConn{c, l.sent}, err
}

type countedConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// fleet are hosts that have the same lock.
type fleet struct {
	t       *testing.T
	hosts   int
	folder  string // of all hosts
	source  string
	lock    []byte
	key     string
	names   []string
	digests []string
}

// atATime is how many hosts run, or come up, at the same moment: it is the machine that has little room, not the registry.
const atATime = 25

// start runs all hosts, and returns what they report and when they started. Together, they come up first, and start at the same moment.
func (f *fleet) start(together bool, change func(*host)) (all []installed, began time.Time) {
	t := f.t
	t.Helper()
	gate, opens, err := os.Pipe()
	require.NoError(t, err)
	defer gate.Close()
	defer opens.Close()
	if !together {
		opens.Close()
	}
	began = time.Now()
	all = make([]installed, f.hosts)
	var ready, done sync.WaitGroup
	room := make(chan struct{}, atATime)
	for i := range f.hosts {
		own := filepath.Join(f.folder, fmt.Sprintf("host-%04d", i))
		h := host{ID: filepath.Base(own), Lock: filepath.Join(own, "ferrule.lock"), Store: filepath.Join(own, "store"), Key: f.key, Source: f.source, Names: f.names}
		require.NoError(t, os.MkdirAll(own, 0o755))
		require.NoError(t, os.WriteFile(h.Lock, f.lock, 0o644))
		if change != nil {
			change(&h)
		}
		text, err := json.Marshal(h)
		require.NoError(t, err)
		room <- struct{}{}
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), asHost+"="+string(text))
		cmd.Stdin, cmd.Stderr = gate, os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		ready.Add(1)
		done.Go(func() {
			reports := json.NewDecoder(out)
			err := reports.Decode(&all[i])
			if together {
				<-room
			}
			ready.Done()
			if err == nil {
				err = reports.Decode(&all[i])
			}
			if _ = cmd.Wait(); err != nil {
				all[i].Err = "no report: " + err.Error()
			}
			if !together {
				<-room
			}
		})
	}
	ready.Wait()
	if together {
		began = time.Now()
		opens.Close()
	}
	done.Wait()
	for i := range all {
		require.Empty(t, all[i].Err, "host %d", i)
	}
	return all, began
}

// complete starts all hosts one after the other, and expects all to end with all files of the lock.
func (f *fleet) complete(change func(*host)) time.Duration {
	f.t.Helper()
	all, began := f.start(false, change)
	for i := range all {
		require.Equal(f.t, f.digests, all[i].Digests, "host %d", i)
	}
	return time.Since(began)
}

// empty removes what hosts have.
func (f *fleet) empty() {
	f.t.Helper()
	require.NoError(f.t, os.RemoveAll(f.folder))
}

// publish publishes plug-ins, and locks them as a person would, who commits the lock.
func (f *fleet) publish(direct string, plugins int) {
	t := f.t
	t.Helper()
	key, err := sign.Generate()
	require.NoError(t, err)
	f.key = key.Public().String()
	to := open(t, direct)
	for i := range plugins {
		name := fmt.Sprintf("dist_p%03d", i)
		f.names = append(f.names, name)
		path := filepath.Join(t.TempDir(), name+fixture.Ext())
		fixture.Variant(t, "released", path, "dist_aaaa", name, "requires=dist_bbbb", "x_quires=dist_bbbb", "conflicts=dist_cccc", "x_nflicts=dist_cccc")
		release, on, err := install.Describe(path)
		require.NoError(t, err)
		file, err := os.Open(path)
		require.NoError(t, err)
		signature, err := sign.Sign(key, sign.Subject{Name: name, Version: release.Version, Platform: on}, file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		require.NoError(t, to.Push(t.Context(), release, map[string]registry.Content{on: {Path: path, Signature: signature}}))
	}
	built, err := index.Build("registry.example/acme", 1, time.Now(), nil, nil, nil)
	require.NoError(t, err)
	signature, err := sign.SignComment(key, built.Comment, bytes.NewReader(built.Root))
	require.NoError(t, err)
	require.NoError(t, to.PushIndex(t.Context(), built, signature))
	dir := t.TempDir()
	first := host{ID: "first", Lock: filepath.Join(dir, "ferrule.lock"), Store: filepath.Join(dir, "store"), Key: f.key, Source: f.source, Names: f.names}
	var done installed
	require.NoError(t, first.install(&done))
	f.digests = done.Digests
	f.lock, err = os.ReadFile(first.Lock)
	require.NoError(t, err)
}

// histogram shows how many there were in each part of a time, one line each.
func histogram(all []time.Duration) string {
	const parts = 12
	part := slices.Max(all)/parts + 1
	var in [parts]int
	for _, d := range all {
		in[d/part]++
	}
	most := slices.Max(in[:])
	var text strings.Builder
	for i, n := range in {
		fmt.Fprintf(&text, "%7.2f s %4d %s\n", (time.Duration(i) * part).Seconds(), n, strings.Repeat("#", (n*50+most-1)/most))
	}
	return text.String()
}

// figures are what a fleet has asked for, as rows of a table.
type figures struct{ rows strings.Builder }

// row adds one, with what 10,000 hosts would ask for: as many times as much.
func (f *figures) row(what string, hosts int, origin, mirror counted, took time.Duration) {
	many := func(c counted) counted {
		return counted{c.requests * 10_000 / int64(hosts), c.bytes * 10_000 / int64(hosts)}
	}
	fmt.Fprintf(&f.rows, "| %s | %v | %v | %v | %v | %.0f s |\n", what, origin, mirror, many(origin), many(mirror), took.Seconds())
}

// once expects that each host has asked for each file of the lock once, and for the registry's index as often as is
// said; for nothing else, and that nobody else has.
func (f *fleet) once(asked map[string][]request, indexes int) {
	t := f.t
	t.Helper()
	require.Len(t, asked, f.hosts)
	for id, requests := range asked {
		require.NotEmpty(t, id)
		paths := map[string]int{}
		blobs := 0
		for _, r := range requests {
			if paths[r.path]++; strings.Contains(r.path, "/blobs/sha256:") {
				blobs++
			}
		}
		require.Equal(t, indexes, paths[indexPath], id)
		require.Len(t, paths, len(f.names)+indexes, id)
		require.Len(t, requests, len(f.names)+indexes, id)
		require.Equal(t, len(f.names), blobs, id)
	}
}

// indexPath is what a host asks the registry for to have its index.
const indexPath = "/v2/fleet/ferrule-index/manifests/latest"

// indexAlone expects that each host has asked for the index, and for nothing else. The mirror, which is no host, may have asked how to log
// in, which it does when its last answer is old.
func (f *fleet) indexAlone(asked map[string][]request) {
	f.t.Helper()
	for _, r := range asked[""] {
		require.Equal(f.t, "/v2/", r.path)
	}
	delete(asked, "")
	require.Len(f.t, asked, f.hosts)
	for id, requests := range asked {
		require.NotEmpty(f.t, id)
		require.Len(f.t, requests, 1, id)
		require.Equal(f.t, indexPath, requests[0].path, id)
	}
}

// together starts all hosts at the same moment, and returns when the first request of each has come to a front.
func (f *fleet) together(at *front, jitter time.Duration) (arrivals []time.Duration) {
	t := f.t
	t.Helper()
	f.empty()
	reports, began := f.start(true, func(h *host) { h.Jitter = jitter })
	_, asked := at.took()
	f.once(asked, 1)
	for i, r := range reports {
		require.Equal(t, f.digests, r.Digests)
		came := asked[fmt.Sprintf("host-%04d", i)][0].at.Sub(began)
		require.GreaterOrEqual(t, came, r.Waited, "it waits before it asks")
		arrivals = append(arrivals, came)
	}
	return arrivals
}

// A fleet asks a registry for as much as its lock and stores lack: each file once, as the lock has the signatures.
// Behind a mirror that has them each host asks the registry for its index, which says what was revoked, and for nothing
// else; what is there is asked of nobody. Hosts that start at once spread over the time that they are told, and those
// that are refused come again when they were told to. FERRULE_FLEET says how many hosts there are: see
// docs/distribution.md. Its figures are for who reads them; no time is a failure.
func TestFleet(t *testing.T) {
	t.Parallel()
	const plugins = 20
	hosts, err := strconv.Atoi(cmp.Or(os.Getenv("FERRULE_FLEET"), "10"))
	require.NoError(t, err)
	require.Positive(t, hosts)
	jitter, busy := time.Second, time.Second
	if hosts > 100 {
		jitter, busy = time.Minute, 5*time.Second
	}
	direct := distribution(t, t.TempDir(), nil)
	origin := newFront(t, direct)
	f := &fleet{t: t, hosts: hosts, folder: filepath.Join(t.TempDir(), "hosts"), source: "oci://" + origin.address + "/fleet"}
	f.publish("oci://"+direct+"/fleet", plugins)
	all, roots := int64(hosts*plugins), int64(hosts)
	var table figures
	c, _ := origin.took()
	table.row("without a lock (one host, which makes it)", 1, c, counted{}, 0)

	took := f.complete(nil)
	c, asked := origin.took()
	f.once(asked, 1)
	assert.Equal(t, all+roots, c.requests)
	table.row("without a mirror", hosts, c, counted{}, took)

	took = f.complete(nil)
	c, _ = origin.took()
	assert.Zero(t, c)
	table.row("lock and store are met", hosts, c, counted{}, took)

	// The mirror is distribution as a cache that pulls through.
	cache := t.TempDir()
	mirror := newFront(t, distribution(t, cache, object{"proxy": object{"remoteurl": "http://" + origin.address, "ttl": "0s"}}))
	mirrored := func(h *host) { h.Mirrors = []string{"oci://" + mirror.address + "/fleet"} }
	f.empty()
	took = f.complete(func(h *host) { mirrored(h); h.Jitter = time.Second })
	c, asked = origin.took()
	through, byHost := mirror.took()
	f.once(byHost, 0)
	blobs := map[string]bool{}
	for _, r := range asked[""] {
		if strings.Contains(r.path, "/blobs/") {
			blobs[r.path] = true
		}
	}
	assert.Len(t, blobs, plugins)
	delete(asked, "")
	f.indexAlone(asked) // all else the mirror alone asks the registry for
	assert.Equal(t, all, through.requests)
	table.row("with a cold mirror", hosts, c, through, took)

	require.Eventually(t, func() bool { // it writes the last ones after it has sent them
		kept, err := filepath.Glob(filepath.Join(cache, "docker", "registry", "v2", "blobs", "sha256", "*", "*", "data"))
		return err == nil && len(kept) == plugins
	}, time.Minute, 10*time.Millisecond)
	f.empty()
	took = f.complete(mirrored)
	c, asked = origin.took()
	through, byHost = mirror.took()
	f.once(byHost, 0)
	f.indexAlone(asked)
	assert.Equal(t, all, through.requests)
	table.row("with a warm mirror", hosts, c, through, took)

	// The registry is busy again and again.
	f.empty()
	origin.mu.Lock()
	origin.busy, origin.period = busy, 2*busy+4*time.Second
	origin.mu.Unlock()
	took = f.complete(nil)
	c, asked = origin.took()
	var refused, early, most int64
	for id, requests := range asked {
		again := map[string]time.Time{}
		turns := map[time.Duration]int64{}
		answered := 0
		for _, r := range requests {
			if r.at.Before(again[r.path]) {
				early++
			}
			if again[r.path] = r.again; r.again.IsZero() {
				answered++
				continue
			}
			refused++
			turn := r.at.Sub(origin.since) / origin.period
			turns[turn]++
			most = max(most, turns[turn])
		}
		assert.Equal(t, plugins+1, answered, id)
	}
	assert.Positive(t, refused)
	assert.Zero(t, early)
	assert.LessOrEqual(t, most, int64(4), "a host has four requests under way, and each of them waits")
	assert.Equal(t, all+roots+refused, c.requests)
	table.row("with a busy registry", hosts, c, counted{}, took)
	origin.mu.Lock()
	origin.busy = 0
	origin.mu.Unlock()

	// All at once, for one plug-in, so that a small machine can serve them.
	f.names, f.digests = f.names[:1], f.digests[:1]
	atOnce := f.together(origin, 0)
	spread := f.together(origin, jitter)

	t.Logf("%d hosts, %d plug-ins; %d hosts at a time, but for those that start at the same moment\n"+
		"| | registry | mirror | 10,000 hosts: registry | mirror | |\n|---|---|---|---|---|---|\n%s\n"+
		"Busy for %v of each %v: %d requests were refused, %d at most of one host in one such time, and sent again before Retry-After was over: %d\n\n"+
		"First requests of hosts that start at the same moment, without jitter:\n%s\nwith one of %v:\n%s",
		hosts, plugins, atATime, &table.rows, busy, origin.period, refused, most, early, histogram(atOnce), jitter, histogram(spread))
}
