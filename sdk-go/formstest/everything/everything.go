// Package everything uses all that a plug-in in Go has.
//
// It is the one source of the four forms that the tests of this module compare.
//
//ferrule:plugin name=everything version=1.2.0 threads=concurrent state=everything-1 config=`{"type":"object"}` license=Apache-2.0 x-kind="of tests"
package everything

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ferrule "github.com/ferrule-dev/ferrule/sdk-go"
)

//go:generate ferrule gen

// ErrSoldOut is a status of the plug-in's own.
const ErrSoldOut = ferrule.Status(1001)

// Settings is the configuration.
type Settings struct {
	Greeting string `json:"greeting,omitempty"`
	First    int    `json:"first,omitempty"`
	Start    string `json:"start,omitempty"`  // what New does beside its work
	Stop     string `json:"stop,omitempty"`   // what Stop does beside its work
	Resume   string `json:"resume,omitempty"` // what Resume does beside its work
}

// State is what an instance has.
type State struct {
	mu         sync.Mutex
	settings   Settings
	count      int
	bytes      []byte
	text       string
	between    context.Context // of Background; nil where there is none
	noBetween  error
	resumed    int
	release    chan struct{} // closed when goroutines that have outlived their calls go on
	afterwards []string      // what they have found
	outliving  sync.WaitGroup
}

// Pair is two numbers.
type Pair struct {
	A int `json:"a"`
	B int `json:"b"`
}

// Sum is several results.
type Sum struct {
	Sum, Product int
	Parts        []int             `json:"parts"`
	Named        map[string]string `json:"named,omitempty"`
	Nothing      *Pair             `json:"nothing"`
}

// Double gives its input twice.
//
//ferrule:import name=double
var double func(ctx context.Context, in []byte) ([]byte, error)

// Refuse fails as the host likes.
//
//ferrule:import name=refuse
var refuse func(ctx context.Context, why string) (string, error)

// Back calls a function of the plug-in's.
//
//ferrule:import name=back
var back func(ctx context.Context, text string) (string, error)

// Add adds two numbers.
//
//ferrule:want why="to add"
var add func(ctx context.Context, p Pair) (int, error)

// Absent is nowhere.
//
//ferrule:want name=absent from=nowhere
var absent func(ctx context.Context) error

// New makes the state.
//
//ferrule:start
func New(ctx context.Context, c Settings) (*State, error) {
	s := &State{settings: c, count: c.First, release: make(chan struct{})}
	s.between, s.noBetween = ferrule.Background(ctx)
	switch c.Start {
	case "fails":
		return nil, fmt.Errorf("it does not start: %w", ferrule.ErrInvalid)
	case "sold out":
		return nil, ErrSoldOut
	case "panics":
		panic("in New")
	case "asks":
		out, err := double(ctx, []byte(c.Greeting))
		if err != nil {
			return nil, err
		}
		s.settings.Greeting = string(out)
	case "logs":
		ferrule.Logger(ctx).Info("started", "first", c.First)
	}
	return s, nil
}

// Stop ends it.
//
//ferrule:stop
func (s *State) Stop(ctx context.Context) error {
	switch s.settings.Stop {
	case "fails":
		return errors.New("it does not stop")
	case "panics":
		panic("in Stop")
	case "logs":
		ferrule.Logger(ctx).Info("stopped", "count", s.count)
	}
	return nil
}

// Configure changes the settings.
//
//ferrule:configure
func (s *State) Configure(ctx context.Context, c Settings) error {
	if c.Start == "fails" {
		return fmt.Errorf("they are refused: %w", ferrule.ErrInvalid)
	}
	ferrule.Logger(ctx).Debug("configured", "from", s.settings.Greeting, "to", c.Greeting)
	s.settings = c
	return nil
}

// Saved is what is handed over.
type Saved struct{ Count, Resumed int }

// Save gives the count to a successor.
//
//ferrule:save
func (s *State) Save() (Saved, error) {
	if s.settings.Stop == "does not save" {
		return Saved{}, errors.New("nothing is saved")
	}
	return Saved{s.count, s.resumed}, nil
}

// Resume takes the count of a predecessor.
//
//ferrule:resume
func (s *State) Resume(saved Saved) error {
	if s.settings.Resume == "fails" {
		return fmt.Errorf("%d is no count: %w", saved.Count, ferrule.ErrInvalid)
	}
	s.count, s.resumed = saved.Count, saved.Resumed+1
	return nil
}

// Echo gives what it got.
//
//ferrule:export
func Echo(in []byte) []byte { return in }

// EchoText gives the text that it got.
//
//ferrule:export
func EchoText(text string) string { return text }

// UpperText gives a text in capitals.
//
//ferrule:export
func UpperText(_ context.Context, text string) (string, error) { return strings.ToUpper(text), nil }

// AddUp adds, multiplies, and says of what.
//
//ferrule:export doc="Adds up." since=1.1.0
func AddUp(p Pair) (Sum, error) {
	if p.A < 0 {
		return Sum{}, fmt.Errorf("%d is negative: %w", p.A, ferrule.ErrInvalid)
	}
	s := Sum{Sum: p.A + p.B, Product: p.A * p.B, Parts: []int{p.A, p.B}}
	if p.B > 0 {
		s.Named = map[string]string{"b": strconv.Itoa(p.B), "a": strconv.Itoa(p.A)}
	}
	return s, nil
}

// Any gives any value of JSON back.
//
//ferrule:export name=any_value
func Any(v any) any { return v }

// NoJSON has a result that JSON has no form for.
//
//ferrule:export
func NoJSON() any { return map[string]any{"channel": make(chan int)} }

// Nothing does nothing.
//
//ferrule:export
func Nothing() {}

// NotText gives a text that is not UTF-8.
//
//ferrule:export
func NotText() string { return "caf\xe9" }

// Empty gives empty bytes, and NoBytes none.
//
//ferrule:export
func Empty() []byte { return []byte{} }

// NoBytes gives none.
//
//ferrule:export
func NoBytes() ([]byte, error) { return nil, nil }

// Long gives n bytes, each of which depends on its place.
//
//ferrule:export
func Long(n int) ([]byte, error) {
	if n < 0 {
		return nil, ferrule.ErrInvalid
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 31 >> 3)
	}
	return b, nil
}

// LongText gives a text of n letters.
//
//ferrule:export
func LongText(n int) string { return strings.Repeat("é", n/2) }

// LongJSON gives n numbers.
//
//ferrule:export
func LongJSON(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i * i
	}
	return all
}

// Fails fails in a way.
//
//ferrule:export
func Fails(ctx context.Context, how string) error {
	switch how {
	case "plain":
		return errors.New("it fails")
	case "empty":
		return errors.New("")
	case "invalid":
		return ferrule.ErrInvalid
	case "wrapped":
		return fmt.Errorf("the stock: %w", ErrSoldOut)
	case "in the middle":
		return fmt.Errorf("first: %w: last", ferrule.ErrUnsupported)
	case "joined":
		return errors.Join(errors.New("one"), ferrule.ErrNoMemory)
	case "cancelled":
		return context.Canceled
	case "deadline":
		return fmt.Errorf("the shop: %w", context.DeadlineExceeded)
	case "not UTF-8":
		return errors.New("caf\xe9")
	case "lines":
		return errors.New("one\ntwo\x00three")
	case "long":
		return errors.New(strings.Repeat("long ", 40_000))
	case "both":
		return &both{}
	}
	if n, err := strconv.Atoi(how); err == nil {
		return ferrule.Status(n)
	}
	return nil
}

// both is an error of two statuses: the first that errors.As finds counts.
type both struct{}

func (*both) Error() string   { return "both" }
func (*both) Unwrap() []error { return []error{ferrule.ErrPass, ErrSoldOut} }

// FailsWithResult has a result, and an error: the error counts.
//
//ferrule:export
func FailsWithResult() (string, error) { return "dropped", ErrSoldOut }

// Passes has nothing to say to an empty input.
//
//ferrule:export
func Passes(in string) (string, error) {
	if in == "" {
		return "", ferrule.ErrPass
	}
	return in, nil
}

// Next counts.
//
//ferrule:export
func (s *State) Next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return s.count
}

// About says what an instance has.
//
//ferrule:export
func (s *State) About(ctx context.Context) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{"settings": s.settings, "count": s.count, "resumed": s.resumed}, nil
}

// Keep keeps its input, which is the host's, as bytes of its own.
//
//ferrule:export
func (s *State) Keep(in []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes = bytes.Clone(in)
}

// KeepText keeps a text, which is the plug-in's.
//
//ferrule:export
func (s *State) KeepText(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

// Kept gives what was kept.
//
//ferrule:export
func (s *State) Kept() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text + "|" + string(s.bytes)
}

// Doubles asks a host function of bytes.
//
//ferrule:export
func Doubles(ctx context.Context, in []byte) ([]byte, error) { return double(ctx, in) }

// Adds asks a host function that is wanted, where it is offered.
//
//ferrule:export
func Adds(ctx context.Context, p Pair) (string, error) {
	if !ferrule.Offered(ctx, "add") {
		_, err := add(ctx, p)
		return fmt.Sprintf("not offered: %v, %t", err, errors.Is(err, ferrule.ErrUnsupported)), nil
	}
	n, err := add(ctx, p)
	return fmt.Sprint(n), err
}

// AsksAbsent asks a host function that nobody offers.
//
//ferrule:export
func AsksAbsent(ctx context.Context) error { return absent(ctx) }

// AsksUnknown asks a host function that is neither an import nor a want.
//
//ferrule:export
func AsksUnknown(ctx context.Context, name string) (string, error) {
	out, err := ferrule.Call(ctx, name, nil)
	var refused *ferrule.Refused
	if errors.As(err, &refused) {
		return fmt.Sprintf("%q %v", refused.Name, refused.Status), nil
	}
	return string(out), err
}

// HandsOn hands the error of a host function on.
//
//ferrule:export
func HandsOn(ctx context.Context, why string) (string, error) { return refuse(ctx, why) }

// Refused says what it got of a host function that failed.
//
//ferrule:export
func Refused(ctx context.Context, why string) (string, error) {
	out, err := refuse(ctx, why)
	var refused *ferrule.Refused
	if !errors.As(err, &refused) {
		return "", fmt.Errorf("found %q, %v, expected a *Refused", out, err)
	}
	return fmt.Sprintf("%s, %d %v, %q, %v", refused.Name, int32(refused.Status), refused.Status, refused.Message, refused), nil
}

// Back has the host call a function of this plug-in.
//
//ferrule:export
func Back(ctx context.Context, text string) (string, error) {
	out, err := back(ctx, text)
	return "(" + out + ")", err
}

// Parallel asks a host function on n goroutines at once, which each write a line.
//
//ferrule:export
func Parallel(ctx context.Context, n int) (int, error) {
	var all sync.WaitGroup
	found, errs := make([]int, n), make([]error, n)
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			var out []byte
			out, errs[i] = double(ctx, []byte(strconv.Itoa(i)))
			found[i], _ = strconv.Atoi(string(out))
			ferrule.Logger(ctx).Info("parallel", "i", i)
		}()
	}
	all.Wait()
	sum := 0
	for _, n := range found {
		sum += n
	}
	return sum, errors.Join(errs...)
}

// secret is what a line shows of itself.
type secret struct{}

func (secret) LogValue() slog.Value { return slog.GroupValue(slog.String("shown", "***")) }

// Logs writes lines of every kind.
//
//ferrule:export
func Logs(ctx context.Context) {
	l := ferrule.Logger(ctx)
	l.Error("an error", "err", errors.New("its text"))
	l.Warn("a warning", "n", 1, "f", 1.5, "b", true, "d", time.Second, "nil", nil)
	l.Info("text [2]\n")
	l.Debug("debug", slog.Group("g", slog.Int("a", 1), slog.Group("h", "b", 2)))
	l.Log(ctx, slog.LevelDebug-4, "a trace")
	l.Log(ctx, slog.LevelError+4, "above")
	l.With("with", "x").WithGroup("group").With("inner", 1).Info("grouped", "a", 1, slog.Group("", "inline", 2), "s", secret{})
	l.WithGroup("").With().Info("as it was", "", "no key", "a=b", "c=d", "caf\xe9", "\xff", "zero\x00", "a\x00b", slog.Group("empty"))
	l.Info("caf\xe9\x00 é\nsecond line\r\n")
	l.Info("")
	l.Info("odd", []any{"without a value"}...)
	l.Info("time", "t", time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC), "any", Pair{1, 2}, "list", []int{1, 2})
	l.InfoContext(context.Background(), "of another context")
	slog.New(l.Handler()).Info("by its handler")
}

// Progresses says how far it is.
//
//ferrule:export
func Progresses(ctx context.Context, n uint64) {
	for i := range n {
		ferrule.Progress(ctx, i+1, n)
	}
}

// Knows answers what the host answers to a key.
//
//ferrule:export
func Knows(ctx context.Context, key []byte) (string, error) { return ferrule.Info(ctx, string(key)) }

// Offers says whether a host function is there.
//
//ferrule:export
func Offers(ctx context.Context, name string) bool { return ferrule.Offered(ctx, name) }

// Remaining says what the call knows of its deadline, by its context and by the host.
//
//ferrule:export
func Remaining(ctx context.Context) (string, error) {
	_, limited := ctx.Deadline()
	text, err := ferrule.Info(ctx, "remaining")
	if errors.Is(err, ferrule.ErrUnsupported) {
		return fmt.Sprintf("limited %t, no time", limited), nil
	}
	n, bad := strconv.ParseInt(text, 10, 64)
	return fmt.Sprintf("limited %t, time %t", limited, bad == nil && n > 0 && n < int64(time.Hour)), err
}

// Waits waits for the end of its context.
//
//ferrule:export
func Waits(ctx context.Context, how string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("it has ended before: %w", err)
	}
	ferrule.Logger(ctx).Info("begun")
	switch how {
	case "err":
		for ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return "", ctx.Err()
	case "derived":
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		<-inner.Done()
		return "", inner.Err()
	case "after":
		ended := make(chan struct{})
		stop := context.AfterFunc(ctx, func() { close(ended) })
		defer stop()
		<-ended
		return "", ctx.Err()
	case "anyway":
		<-ctx.Done()
		return "a result", nil
	case "host":
		<-ctx.Done()
		_, err := double(ctx, []byte("late"))
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(time.Hour):
		return "", errors.New("an hour has passed")
	}
}

// Counts counts the bytes of its input stream.
//
//ferrule:export
func Counts(ctx context.Context, in io.Reader) (int64, error) { return io.Copy(io.Discard, in) }

// First reads n bytes of its input stream and leaves the rest.
//
//ferrule:export
func First(n int, in io.Reader) ([]byte, error) {
	b := make([]byte, n)
	m, err := io.ReadFull(in, b)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:m], err
}

// Gives writes n lines to its output stream.
//
//ferrule:export
func Gives(ctx context.Context, n int, out io.Writer) error {
	for i := range n {
		if _, err := fmt.Fprintf(out, "line %d\n", i); err != nil {
			return err
		}
	}
	return nil
}

// Swaps writes what it reads, in capitals, and says how much that was.
//
//ferrule:export
func Swaps(ctx context.Context, before string, in io.Reader, out io.Writer) (string, error) {
	if _, err := io.WriteString(out, before); err != nil {
		return "", err
	}
	n := 0
	for b := make([]byte, 1000); ; {
		m, err := in.Read(b)
		if m > 0 {
			n += m
			if _, err := out.Write(bytes.ToUpper(b[:m])); err != nil {
				return "", err
			}
		}
		if err == io.EOF {
			return strconv.Itoa(n) + " bytes", nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Gone writes until nobody takes it any more, and says what it was told.
//
//ferrule:export
func Gone(ctx context.Context, out io.Writer) error {
	for b := make([]byte, 4096); ; {
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
}

// Around stands around the hooks behind it: its input says how often it calls them.
//
//ferrule:hook around wrap=yes order=first
func Around(ctx context.Context, in string) (string, error) {
	switch in {
	case "pass":
		return "", ferrule.ErrPass
	case "none":
		return "by itself", nil
	}
	times := 1
	if in == "twice" {
		times = 2
	}
	var all []string
	for range times {
		out, err := ferrule.Next(ctx, []byte(in))
		if err != nil {
			return "", err
		}
		all = append(all, string(out))
	}
	return "[" + strings.Join(all, " ") + "]", nil
}

// BeforeSale attends a sale.
//
//ferrule:hook before_sale before="a\nb" priority=7 optional=yes
func (s *State) BeforeSale(ctx context.Context, p Pair) (Pair, error) {
	if p.A == 0 {
		return p, ferrule.ErrPass
	}
	return Pair{p.B, p.A + s.settings.First}, nil
}

// OfNoHook asks for what stands behind, where it is no hook.
//
//ferrule:export
func OfNoHook(ctx context.Context) ([]byte, error) { return ferrule.Next(ctx, nil) }

// Between asks the host and writes a line for no call, on a goroutine of its own, and waits for that.
//
//ferrule:export
func (s *State) Between(ctx context.Context, in string) (string, error) {
	if s.between == nil {
		return "", s.noBetween
	}
	done := make(chan error)
	var out []byte
	go func() {
		var err error
		out, err = double(s.between, []byte(in))
		ferrule.Logger(s.between).Info("between calls", "in", in)
		done <- err
	}()
	err := <-done
	return string(out), err
}

// NotBetween asks for what start functions have alone.
//
//ferrule:export
func NotBetween(ctx context.Context) error {
	_, err := ferrule.Background(ctx)
	return err
}

// Leaves leaves goroutines behind, which use the call's context after it is over.
//
//ferrule:export
func (s *State) Leaves(ctx context.Context) {
	for range 4 {
		s.outliving.Add(1)
		go func() {
			defer s.outliving.Done()
			<-s.release
			_, err := double(ctx, []byte("late"))
			_, known := ferrule.Info(ctx, "instance")
			_, behind := ferrule.Next(ctx, nil)
			ferrule.Logger(ctx).Error("a line of a call that is over")
			ferrule.Progress(ctx, 1, 2)
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, err := range []error{err, known, behind} {
				s.afterwards = append(s.afterwards, fmt.Sprintf("%v, %t", err, errors.Is(err, ferrule.ErrMisuse)))
			}
		}()
	}
}

// Left lets them go on, and says what they have found.
//
//ferrule:export
func (s *State) Left() ([]string, error) {
	close(s.release)
	s.outliving.Wait()
	s.release = make(chan struct{})
	slices.Sort(s.afterwards)
	found := slices.Compact(s.afterwards)
	s.afterwards = nil
	return found, nil
}

// OtherContext uses contexts that are of no call.
//
//ferrule:export
func OtherContext() (string, error) {
	_, err := double(context.Background(), nil)
	ferrule.Logger(context.Background()).Error("a line of no call")
	return "", err
}
