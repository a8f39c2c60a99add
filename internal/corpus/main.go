// Command corpus compares what package inspect says of real libraries, every fact and every exported name, with what LIEF
// reads in them and with what their packages say they are for. It fails when anything differs.
//
//	go run ./internal/corpus
//
// It downloads the packages in list.txt through the clients of their registries, as they are set up on this machine: pip,
// npm, apt-get with lists of its own, so that the machine's architectures stay as they are. All lies in build/corpus, and
// what is there is not downloaded again.
package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader/inspect"
)

//go:embed list.txt
var list string

//go:embed oracle.py
var oracle string

const lief = "lief==1.0.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

func do(ctx context.Context) error {
	items, err := readList(list)
	if err != nil {
		return err
	}
	f := &fetcher{ctx: ctx, work: filepath.Join(fixture.Root(), "build", "corpus")}
	start := time.Now()
	if err := f.fetch(items); err != nil {
		return err
	}
	fmt.Printf("%d packages, %.0f s\n", len(items), time.Since(start).Seconds())
	for _, i := range items {
		if i.newer != "" {
			fmt.Printf("%s is gone, had %s\n", i, i.newer)
		}
	}
	start = time.Now()
	o := &asker{ctx: ctx, python: f.python}
	defer o.stop()
	c := &counts{platforms: make(map[string]*count)}
	for _, i := range items {
		if err := filepath.WalkDir(f.dir(i), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			return c.library(o, i, path)
		}); err != nil {
			return err
		}
	}
	c.print(os.Stdout)
	fmt.Printf("compared in %.0f s\n", time.Since(start).Seconds())
	if c.differences > 0 {
		return fmt.Errorf("%d differences", c.differences)
	}
	return nil
}

// fetch gets all packages, and the oracle.
func (f *fetcher) fetch(items []*item) error {
	if err := os.MkdirAll(f.work, 0o777); err != nil {
		return err
	}
	var archs []string
	for _, i := range items {
		if i.client == "deb" && !slices.Contains(archs, i.tag) {
			archs = append(archs, i.tag)
		}
	}
	venv := filepath.Join(f.work, "venv")
	f.python = filepath.Join(venv, "bin", "python")
	if _, err := os.Stat(f.python + ".done"); err != nil {
		if _, err := f.run(f.work, "python3", "-m", "venv", venv); err != nil {
			return err
		}
		if _, err := f.run(f.work, f.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", lief); err != nil {
			return err
		}
		if err := os.WriteFile(f.python+".done", nil, 0o666); err != nil {
			return err
		}
	}
	if err := f.setUpApt(archs); err != nil {
		return err
	}
	if err := f.getDebs(items); err != nil {
		return err
	}
	errs := make([]error, len(items))
	slots := make(chan struct{}, 4)
	var wg sync.WaitGroup
	for k, i := range items {
		slots <- struct{}{}
		wg.Go(func() {
			errs[k] = f.get(i)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// facts are what the oracle says of a library, or of a slice of it. A nil pointer is a fact that its format does not have.
type facts struct {
	Arch        string
	Needed      []string
	SOName      string
	RunPath     []string
	Exports     []string
	MinOS       *string
	MinGlibc    *string
	StaticTLS   *bool
	RELRO       *string
	BindNow     *bool
	TextRel     *bool
	WriteExec   *bool
	Signed      *bool
	HighEntropy *bool
	GuardCF     *bool
}

// asker asks the oracle, which runs in a process of its own and is started again when it died of a library.
type asker struct {
	ctx    context.Context
	python string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

func (a *asker) stop() {
	if a.cmd != nil {
		a.in.Close()
		a.cmd.Wait() //nolint:errcheck // it has said what it had to say
		a.cmd = nil
	}
}

// ask returns what the oracle says of each slice of a library. died says that the oracle itself could not read it.
func (a *asker) ask(path string) (slices []facts, died string, err error) {
	if a.cmd == nil {
		a.cmd = exec.CommandContext(a.ctx, a.python, "-W", "ignore", "-c", oracle)
		a.cmd.Stderr = os.Stderr
		out, err := a.cmd.StdoutPipe()
		if err != nil {
			return nil, "", err
		}
		if a.in, err = a.cmd.StdinPipe(); err != nil {
			return nil, "", err
		}
		if err := a.cmd.Start(); err != nil {
			return nil, "", err
		}
		a.out = bufio.NewReader(out)
	}
	if _, err := fmt.Fprintln(a.in, path); err != nil {
		return nil, "", err
	}
	line, err := a.out.ReadBytes('\n')
	if err != nil {
		died := fmt.Sprint(a.cmd.Wait())
		a.cmd = nil
		return nil, died, a.ctx.Err()
	}
	if line[0] == '{' {
		var fault struct{ Fault string }
		return nil, "", errors.Join(json.Unmarshal(line, &fault), fmt.Errorf("the oracle on %s: %s", path, fault.Fault))
	}
	return slices, "", json.Unmarshal(line, &slices)
}

// count is what became of the libraries of one platform.
type count struct{ libraries, slices, names, unread int }

type counts struct {
	platforms   map[string]*count
	order       []string
	differences int
}

// library compares what is said of one library.
func (c *counts) library(o *asker, i *item, path string) error {
	n := c.platforms[i.platform]
	if n == nil {
		n = &count{}
		c.platforms[i.platform] = n
		c.order = append(c.order, i.platform)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	whole, err := inspect.Describe(path)
	if errors.Is(err, inspect.ErrNotLibrary) { // a linker script among the libraries, a program named as one
		if !bytes.HasPrefix(data, []byte("\x7fELF")) {
			return nil
		}
	}
	name := i.String() + ": " + filepath.Base(path)
	if err != nil {
		c.differ(name, "it", "a library", err.Error())
		return nil
	}
	said, died, err := o.ask(path)
	if err != nil {
		return err
	}
	n.libraries++
	if died != "" {
		fmt.Printf("%s: LIEF died of it: %s\n", name, died)
		n.unread++
		return nil
	}
	parts := slicesOf(data)
	if len(parts) != len(said) || len(parts) != len(whole.Archs) {
		c.differ(name, "slices", fmt.Sprint(len(said)), fmt.Sprint(whole.Archs))
		return nil
	}
	for k, part := range parts {
		lib, err := inspect.DescribeReader(bytes.NewReader(part), int64(len(part)))
		if err != nil {
			c.differ(name, "a slice", "a library", err.Error())
			continue
		}
		n.slices++
		n.names += len(lib.Exports)
		c.compare(name, i.platform, &said[k], lib)
	}
	return nil
}

// slicesOf returns the slices of a fat file, or the file as its only one.
func slicesOf(data []byte) [][]byte {
	if !bytes.HasPrefix(data, []byte{0xca, 0xfe, 0xba, 0xbe}) {
		return [][]byte{data}
	}
	var parts [][]byte
	for k := range binary.BigEndian.Uint32(data[4:]) {
		entry := data[8+20*k:]
		parts = append(parts, data[binary.BigEndian.Uint32(entry[8:]):][:binary.BigEndian.Uint32(entry[12:])])
	}
	return parts
}

func (c *counts) compare(name, platform string, want *facts, lib *inspect.Library) {
	system, libc := "linux", inspect.CLibrary("")
	switch kind, _, _ := strings.Cut(platform, "-"); kind {
	case "macos":
		system = "darwin"
	case "glibc", "musl":
		libc = inspect.CLibrary(kind)
	case "android":
		system, libc = kind, inspect.Bionic
	default:
		system = kind
	}
	c.same(name, "OS", system, lib.OS)
	if lib.CLibrary != "" || slices.ContainsFunc(want.Needed, func(n string) bool { return strings.HasPrefix(n, "libc.") }) {
		c.same(name, "CLibrary", string(libc), string(lib.CLibrary))
	}
	c.same(name, "Arch", want.Arch, lib.Arch)
	c.same(name, "SOName", want.SOName, lib.SOName)
	c.lists(name, "Needed", want.Needed, lib.Needed)
	c.lists(name, "RunPath", want.RunPath, lib.RunPath)
	c.lists(name, "Exports", want.Exports, lib.Exports)
	h := lib.Hardening
	for _, e := range []struct {
		what      string
		want, got any
	}{
		{"MinOS", want.MinOS, lib.MinOS}, {"MinGlibc", want.MinGlibc, lib.MinGlibc}, {"StaticTLS", want.StaticTLS, lib.StaticTLS},
		{"RELRO", want.RELRO, string(h.RELRO)}, {"BindNow", want.BindNow, h.BindNow}, {"TextRel", want.TextRel, h.TextRel},
		{"WriteExec", want.WriteExec, h.WriteExec}, {"Signed", want.Signed, h.Signed},
		{"HighEntropy", want.HighEntropy, h.HighEntropy}, {"GuardCF", want.GuardCF, h.GuardCF},
	} {
		switch w := e.want.(type) {
		case *string:
			if w != nil {
				c.same(name, e.what, *w, fmt.Sprint(e.got))
			}
		case *bool:
			if w != nil {
				c.same(name, e.what, fmt.Sprint(*w), fmt.Sprint(e.got))
			}
		}
	}
}

func (c *counts) same(name, what, want, got string) {
	if want != got {
		c.differ(name, what, want, got)
	}
}

// lists compares lists without their order, and says what only one has.
func (c *counts) lists(name, what string, want, got []string) {
	missing := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return contains(got, s) })
	more := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return contains(want, s) })
	if len(missing)+len(more) > 0 {
		c.differ(name, what, fmt.Sprintf("%d more: %.200q", len(missing), missing[:min(4, len(missing))]),
			fmt.Sprintf("%d more: %.200q", len(more), more[:min(4, len(more))]))
	}
}

// contains is for long lists, which are sorted, and for short ones, which need not be.
func contains(list []string, s string) bool {
	if _, found := slices.BinarySearch(list, s); found {
		return true
	}
	return len(list) < 64 && slices.Contains(list, s)
}

func (c *counts) differ(name, what, want, got string) {
	c.differences++
	fmt.Printf("%s: %s: LIEF or its package %s, inspect %s\n", name, what, want, got)
}

func (c *counts) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "platform\tlibraries\tslices\texported names\tnot read by LIEF\t")
	sum := count{}
	for _, platform := range c.order {
		n := c.platforms[platform]
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t\n", platform, n.libraries, n.slices, n.names, n.unread)
		sum.libraries, sum.slices = sum.libraries+n.libraries, sum.slices+n.slices
		sum.names, sum.unread = sum.names+n.names, sum.unread+n.unread
	}
	fmt.Fprintf(table, "all\t%d\t%d\t%d\t%d\t\n", sum.libraries, sum.slices, sum.names, sum.unread)
	table.Flush()
}
