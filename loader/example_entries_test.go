package loader_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
)

// examplePath is the path of the fixture services, with the engine that opens it; the name of its double in Go where there is
// no compiler.
func examplePath() (path string, engine loader.Option) {
	path, ok := fixture.OfExample("services")
	if !ok {
		return "services", loader.WithEngine(builtin.Engine(double(path)))
	}
	return path, loader.WithEngine(loader.Native())
}

// toUpper is the application's, which a plug-in calls.
func toUpper(_ context.Context, text string) (string, error) {
	if text == "" {
		return "", fmt.Errorf("no text: %w", loader.ErrInvalid)
	}
	return strings.ToUpper(text), nil
}

func ExampleOpen() {
	path, engine := examplePath()
	p, err := loader.Open(path, engine, needed)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "add", nil)
	fmt.Println(p.Name(), p.Version(), string(out), err)
	// Output: services 1.1.0 1 <nil>
}

// An error says which kind it is, what was found, what was expected and what to do.
func ExampleOpen_errors() {
	_, err := loader.Open("plugins/discount.so")
	fmt.Println(errors.Is(err, loader.ErrRead), errors.Is(err, fs.ErrNotExist))
	_, err = loader.Open("inspect/testdata/probe.c")
	var e *loader.OpenError
	fmt.Println(errors.As(err, &e), e.Kind == loader.ErrNotLibrary)
	fmt.Printf("found %s, expected %s\n", e.Found, e.Expected)
	// Output:
	// true true
	// true true
	// found a text file, expected ELF (.so), Mach-O (.dylib), PE (.dll) or WebAssembly (.wasm)
}

// A host gives up waiting; a library whose constructors hang stays behind.
func ExampleOpenContext() {
	path, engine := examplePath()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := loader.OpenContext(ctx, path, engine, needed)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	cancel() // the plug-in is not bound to it
	out, err := p.Call(context.Background(), "add", nil)
	fmt.Println(string(out), err)
	// Output: 1 <nil>
}

// The options of Open bound what a plug-in takes, and say what it gets. Where they are of no use to an engine, they do nothing.
func ExampleOption() {
	data, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(data)
	path, engine := examplePath()
	options := []loader.Option{
		engine,
		needed,
		loader.WithConfig([]byte("quiet")),
		loader.WithLogger(slog.New(slog.DiscardHandler)),
		loader.WithInstances(4),                 // states that calls may meet
		loader.WithMaxCalls(16),                 // that run at a time
		loader.WithCallTimeout(2 * time.Second), // each
		loader.WithOverdue(func(name string, limit time.Duration) { slog.Warn("it does not stop", "function", name) }),
		loader.WithPluginInfo("shop.tenant", "ada"),
		loader.WithDataFolder(data),
		loader.WithQuick(),           // code that is trusted as one's own
		loader.WithPrivateCopy(),     // whatever happens to the file later
		loader.WithUnload(),          // for libraries that support it
		loader.WithExecutableStack(), // for old ones
	}
	p, err := loader.Open(path, options...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	for _, key := range []string{"shop.tenant", "data"} {
		out, err := p.Call(context.Background(), "info", []byte(key)) // the function asks its host for the key in its input
		fmt.Println(key, string(out) == "ada" || string(out) == data, err)
	}
	// Output:
	// shop.tenant true <nil>
	// data true <nil>
}

func ExampleInspect() {
	lib, err := loader.Inspect("inspect/testdata/elf-arm64-gcc.so")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(lib.Manifest.Name, lib.Manifest.Version, "for", lib.OS, lib.Arch)
	// Output: probe 1.2.3 for linux arm64
}

// What both sides have as JSON are Go values here: of the host's function as of the plug-in's.
func ExampleCallJSON() {
	p, err := openExample(loader.WithHostFunc("upper", loader.JSONFunc(toUpper)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	ctx := context.Background()
	loud, err := loader.CallJSON[string, string](ctx, p, "upper", "good morning") // hands its input to the host function upper
	fmt.Println(loud, err)
	_, err = loader.CallJSON[string, string](ctx, p, "upper", "")
	var failed *loader.CallError
	if errors.As(err, &failed) {
		fmt.Println(failed.Func, failed.Status == loader.ErrInvalid, failed.Message)
	}
	_, err = loader.CallJSON[string, int](ctx, p, "upper", "a text") // which is no number
	var codec *loader.CodecError
	fmt.Println(errors.As(err, &codec))
	// Output:
	// GOOD MORNING <nil>
	// upper true no text
	// true
}

// lineCodec has a text for its bytes, with a newline behind it.
type lineCodec struct{}

func (lineCodec) Marshal(v any) ([]byte, error) {
	text, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("found a %T, expected a string", v)
	}
	return []byte(text + "\n"), nil
}

func (lineCodec) Unmarshal(data []byte, v any) error {
	text, ok := v.(*string)
	if !ok {
		return fmt.Errorf("found a %T, expected a *string", v)
	}
	*text = strings.TrimSuffix(string(data), "\n")
	return nil
}

// Any encoding will do that both sides know.
func ExampleCallWith() {
	var codec loader.Codec = lineCodec{}
	p, err := openExample(loader.WithHostFunc("upper", loader.FuncWith(codec, toUpper)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	loud, err := loader.CallWith[string, string](context.Background(), p, codec, "upper", "good morning")
	fmt.Println(loud, err)
	// Output: GOOD MORNING <nil>
}

// A host function knows who calls it.
func ExampleCaller() {
	var whoami loader.HostFunc = func(ctx context.Context, _ []byte) ([]byte, error) {
		name, ok := loader.Caller(ctx)
		if !ok {
			return nil, errors.New("nobody's call")
		}
		return []byte(name), nil
	}
	p, err := openExample(loader.WithHostFunc("upper", whoami))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "upper", nil)
	fmt.Println(string(out), err)
	// Output: services <nil>
}

// The hook stands around what the application does by itself.
func ExampleWithNext() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	hook, err := p.Hook("around")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := loader.WithNext(context.Background(), func(_ context.Context, in []byte) ([]byte, error) {
		return append([]byte("sold: "), in...), nil
	})
	out, err := hook.Call(ctx, []byte("tea"))
	fmt.Println(string(out), err)
	// Output: sold: tea <nil>
}

// The hot path: a function that is found once, and a buffer that is used again.
func ExampleFunc_Append() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	add, err := p.Func("add")
	if err != nil {
		fmt.Println(err)
		return
	}
	var buffer []byte
	for range 3 {
		if buffer, err = add.Append(context.Background(), buffer[:0], nil); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(string(buffer))
	// Output: 3
}

// Many inputs cross at once.
func ExampleFunc_Batch() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	info, err := p.Func("info")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := loader.WithInfo(context.Background(), "shop.tenant", "ada")
	var results loader.Batch
	if err := info.Batch(ctx, [][]byte{[]byte("shop.tenant"), []byte("shop.unknown")}, &results); err != nil {
		fmt.Println(err)
		return
	}
	for i := range results.Len() {
		out, err := results.Result(i)
		fmt.Printf("%q %v\n", out, errors.Is(err, loader.ErrUnsupported))
	}
	// Output:
	// "ada" false
	// "" true
}

// A result is read where the plug-in has it: a long one is not copied.
func ExampleFunc_View() {
	p, err := openExample(loader.WithConfig([]byte("as long as it is")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	config, err := p.Func("config")
	if err != nil {
		fmt.Println(err)
		return
	}
	var view *loader.View
	if view, err = config.View(context.Background(), nil); err != nil {
		fmt.Println(err)
		return
	}
	defer view.Release() // Bytes is the plug-in's until then
	fmt.Println(string(view.Bytes()))
	// Output: as long as it is
}

// A function that is not there, and one of a plug-in that is closed, were not called.
func ExampleUsageError() {
	p, err := openExample()
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Func("swop")
	var usage *loader.UsageError
	if errors.As(err, &usage) {
		fmt.Println(usage.Func, usage.Kind == loader.ErrNoFunc, usage.Remedy)
	}
	p.Close()
	_, err = p.Call(context.Background(), "swap", nil)
	fmt.Println(errors.Is(err, loader.ErrClosed))
	// Output:
	// swop true did you mean "swap"?
	// true
}

// A status is an error, which a host function wraps and errors.Is finds.
func ExampleStatus() {
	var status loader.Status = loader.ErrInvalid
	err := fmt.Errorf("no customer: %w", status)
	fmt.Println(errors.Is(err, loader.ErrInvalid), errors.Is(err, loader.ErrFailed))
	// Output: true false
}

// A session has settings of its own.
func ExampleSession() {
	p, err := openExample(loader.WithConfig([]byte("for all")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	var s *loader.Session
	if s, err = p.NewSession(context.Background(), []byte("for Ada")); err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	mine, err := s.Call(context.Background(), "config", nil)
	fmt.Println(string(mine), err)
	out, err := p.Call(context.Background(), "config", nil)
	fmt.Println(string(out), err)
	// Output:
	// for Ada <nil>
	// for all <nil>
}

// A state that was kept in a file goes on in a new process.
func ExampleNewState() {
	p, err := openExample(loader.WithState(loader.NewState("count-1", [][]byte{[]byte("41")})))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "add", nil)
	fmt.Println(string(out), err)
	// Output: 42 <nil>
}

// A host that ends does not wait for ever for a call that does not come back.
func ExamplePlugin_Shutdown() {
	entered, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	p, err := openExample(loader.WithHostFunc("upper", func(context.Context, []byte) ([]byte, error) {
		close(entered)
		<-release
		return []byte("late"), nil
	}))
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		defer close(returned)
		out, err := p.Call(context.Background(), "upper", nil)
		fmt.Println(string(out), err)
	}()
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	var unfinished *loader.ShutdownError
	if errors.As(p.Shutdown(ctx), &unfinished) {
		fmt.Println("calls in progress:", unfinished.Calls)
	}
	close(release)
	<-returned
	fmt.Println(p.Close())
	// Output:
	// calls in progress: 1
	// late <nil>
	// <nil>
}
