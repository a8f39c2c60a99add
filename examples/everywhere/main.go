// Command everywhere calls one merchant's discount twelve times: as a plug-in in C, C++, Rust, WebAssembly, Extism's WebAssembly, JavaScript and Python, and
// as one in Go that is compiled in, a WebAssembly module, a library, a program, and a node beyond a message broker. It opens each in one line, calls all twelve in the
// same way, and prints what came of it.
//
//	everywhere
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/ferrule-dev/ferrule/examples/everywhere/discount"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
	"github.com/ferrule-dev/ferrule/loader/script"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/wasm"
)

// Cart is what a plug-in gets. Its numbers, and what it costs, are of 0 to 2^53-1: what every language has exactly.
type Cart struct {
	Customer string `json:"customer"` // "" is a guest
	Coupon   string `json:"coupon,omitempty"`
	Items    []Item `json:"items"`
}

// Item is a line of a cart.
type Item struct {
	Name     string `json:"name"`
	Category string `json:"category"`
	Cents    int64  `json:"cents"` // for one
	Quantity int64  `json:"quantity"`
}

// Discount is what a plug-in decides.
type Discount struct {
	Cents  int64   `json:"cents"`
	Points int64   `json:"points"` // that the customer gives for it
	Best   *string `json:"best"`   // the book that saves most
}

// form is one that the discount has.
type form struct {
	name, runs string
	open       func(m *market, opts ...loader.Option) (*loader.Plugin, error)
}

var forms = []form{
	{"C", "this process", func(m *market, opts ...loader.Option) (*loader.Plugin, error) { return m.built("everywhere/c", opts) }},
	{"C++", "this process", func(m *market, opts ...loader.Option) (*loader.Plugin, error) { return m.built("everywhere/cpp", opts) }},
	{"Rust", "this process", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		return m.built("everywhere/rust", opts)
	}},
	{"WebAssembly", "this process, shut in", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		return m.built("everywhere/wasm", append(opts, loader.WithEngine(wasm.Engine(m.cache()))))
	}},
	{"Extism", "this process, shut in", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		return m.built("everywhere/extism", append(opts, loader.WithEngine(wasm.Engine(m.cache()))))
	}},
	{"JavaScript", "this process, shut in", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		return loader.Open(m.source("discount.js"), append(opts, loader.WithEngine(script.Engine(script.WithWasm(m.cache()))))...)
	}},
	{"Python", "a worker process", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		adapter, err := m.python()
		if err != nil {
			return nil, err
		}
		return loader.Open(m.source("discount.py"), append(opts, loader.WithEngine(script.Engine(script.WithPython(adapter, nil))))...)
	}},
	{"Go", "this process", func(_ *market, opts ...loader.Option) (*loader.Plugin, error) {
		return builtin.Open(builtin.From(discount.Plugin), opts...)
	}},
	{"Go, a module", "this process, shut in", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		return m.built("everywhere/go-module", append(opts, loader.WithEngine(wasm.Engine(m.cache()))))
	}},
	{"Go, a library", "a worker process", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		return m.built("everywhere/go-library", append(opts, isolate.InWorker()))
	}},
	{"Go, a program", "a process of its own", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		return m.built("everywhere/go-program", append(opts, sidecar.Program()))
	}},
	{"Go, a node", "behind a NATS server", func(m *market, opts ...loader.Option) (*loader.Plugin, error) {
		url, err := m.node()
		if err != nil {
			return nil, err
		}
		return loader.Open(url+"/discount", append(opts, nats.Plugin())...)
	}},
}

// before is the plug-ins' function.
const before = "before_checkout"

// market is where plug-ins come from.
type market struct {
	ctx  context.Context   // for as long as it is open
	root string            // the folder of the checkout
	kept map[string]string // what is built, and what listens
	ends []func()
}

// missingError is the one of a form that cannot be had on this machine.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

// newMarket finds the checkout around the working directory.
func newMarket(ctx context.Context) (*market, error) {
	folder, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for at := folder; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "examples", "build.sh")); err == nil {
			return &market{ctx: ctx, root: at, kept: map[string]string{}}, nil
		}
		if at == filepath.Dir(at) {
			return nil, fmt.Errorf("found no checkout of Ferrule around %s, expected to run in one", folder)
		}
	}
}

func (m *market) close() {
	for _, end := range slices.Backward(m.ends) {
		end()
	}
}

func (m *market) source(name string) string {
	return filepath.Join(m.root, "examples", "everywhere", name)
}

// cache keeps what was compiled of WebAssembly.
func (m *market) cache() wasm.Option {
	return wasm.WithCache(filepath.Join(m.root, "build", "compiled"))
}

// build has examples/build.sh build a plug-in, once, and returns its path.
func (m *market) build(name string) (string, error) {
	if path := m.kept[name]; path != "" {
		return path, nil
	}
	cmd := exec.CommandContext(m.ctx, "sh", "examples/build.sh", name)
	cmd.Dir = m.root
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", &missingError{"sh is missing: on Windows see https://gitforwindows.org"}
	case ended && exit.ExitCode() == 3: // something is missing, as build.sh says
		return "", &missingError{strings.TrimPrefix(strings.TrimSpace(said.String()), "examples/build.sh: "+name+": ")}
	case err != nil:
		return "", fmt.Errorf("examples/build.sh %s: %w\n%s", name, err, &said)
	}
	m.kept[name] = filepath.Join(m.root, strings.TrimSpace(string(out)))
	return m.kept[name], nil
}

// built builds a plug-in and opens it.
func (m *market) built(name string, opts []loader.Option) (*loader.Plugin, error) {
	path, err := m.build(name)
	if err != nil {
		return nil, err
	}
	return loader.Open(path, opts...)
}

// python returns the path of the library that embeds the system's Python.
func (m *market) python() (string, error) {
	if runtime.GOOS == "windows" {
		return "", &missingError{"the library that embeds Python is built by a shell of Unix's"}
	}
	for _, tool := range [][2]string{{cmp.Or(os.Getenv("CC"), "cc"), "apt-get install gcc"}, {cmp.Or(os.Getenv("PYTHON_CONFIG"), "python3-config"), "apt-get install python3-dev"}} {
		if _, err := exec.LookPath(strings.Fields(tool[0])[0]); err != nil {
			return "", &missingError{tool[0] + " is missing: " + tool[1]}
		}
	}
	return script.KeepPython(m.ctx, filepath.Join(m.root, "build", "examples", "everywhere", "python"), "", nil)
}

// node starts a NATS server, and a node that serves the discount to its hosts, and returns the server's URL. Real ones are elsewhere.
func (m *market) node() (string, error) {
	if url := m.kept["node"]; url != "" {
		return url, nil
	}
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true})
	if err != nil {
		return "", err
	}
	go broker.Start()
	m.ends = append(m.ends, func() { broker.Shutdown(); broker.WaitForShutdown() })
	if !broker.ReadyForConnections(time.Minute) {
		return "", errors.New("the NATS server did not start within a minute")
	}
	ctx, stop := context.WithCancel(m.ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	node := nats.Node{Servers: broker.ClientURL(), Ready: func(string) { close(ready) }}
	go func() { ended <- nats.Serve(ctx, serve.Go(builtin.From(discount.Plugin)), node) }()
	select {
	case <-ready:
		m.ends = append(m.ends, func() { stop(); <-ended })
		m.kept["node"] = broker.ClientURL()
		return m.kept["node"], nil
	case err := <-ended:
		stop()
		return "", err
	}
}

// points stands for the database of a real shop.
var points = map[string]int64{"ada": 0, "grace": 2750, "joan": 310}

// loyaltyPoints is the host function that plug-ins import: how many points a customer has, by the name. Who is not known has none.
func loyaltyPoints(_ context.Context, customer []byte) ([]byte, error) {
	return fmt.Append(nil, points[string(customer)]), nil
}

var shown = Cart{Customer: "grace", Coupon: "FIVE", Items: []Item{
	{"Structure and Interpretation of Computer Programs", "books", 5995, 2},
	{"Grace Hopper: Admiral of the Cyber Sea", "books", 3450, 1},
	{"Teekanne „Größe L“ ☕", "kitchen", 4900, 1},
}}

func main() {
	if len(os.Args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: everywhere")
		os.Exit(2)
	}
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "everywhere:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	m, err := newMarket(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	return m.show(os.Stdout)
}

// show prints the table. Forms that this machine lacks something for are no error, and any other that does not work is.
func (m *market) show(to io.Writer) (err error) {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "form\truns in\tdiscount\tpoints\tbest\ttime per call")
	for _, f := range forms {
		d, took, failed := f.measure(m, shown)
		var missing *missingError
		switch {
		case errors.As(failed, &missing):
			fmt.Fprintf(table, "%s\t%s\t%v\n", f.name, f.runs, missing)
		case failed != nil:
			err = errors.Join(err, fmt.Errorf("%s: %w", f.name, failed))
		default:
			fmt.Fprintf(table, "%s\t%s\t$%d.%02d\t%d\t%s\t%.1f µs\n", f.name, f.runs, d.Cents/100, d.Cents%100, d.Points, *d.Best, float64(took)/1000)
		}
	}
	return errors.Join(table.Flush(), err)
}

// calls is how many are measured of each.
const calls = 1001

// measure opens a form, and calls it with a cart: what it decides, and the median of how long a call takes.
func (f *form) measure(m *market, c Cart) (d Discount, took time.Duration, err error) {
	p, err := f.open(m, loader.WithHostFunc("loyalty_points", loyaltyPoints))
	if err != nil {
		return d, 0, err
	}
	defer p.Close()
	in, err := json.Marshal(c)
	if err != nil {
		return d, 0, err
	}
	var out []byte
	times := make([]time.Duration, calls)
	for i := range times {
		start := time.Now()
		if out, err = p.Call(m.ctx, before, in); err != nil {
			return d, 0, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return d, times[calls/2], json.Unmarshal(out, &d)
}
