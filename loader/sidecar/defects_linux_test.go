package sidecar_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/loader/sidecar/serve"
	"github.com/ferrule-dev/ferrule/loader/sidecar/wire"
)

func init() {
	modes["defect"] = func(args []string) { defective(args) }
	modes["sound"] = func(args []string) {
		if len(args) > 0 {
			sound.Threads = abi.Pinned
		}
		if err := serve.Stdio(context.Background(), serve.Go(sound)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// sound is a plug-in without a defect, of which many calls run at a time.
var sound = &builtin.Plugin{Name: "sound", Version: "1.0.0", Threads: abi.Concurrent, Wants: []string{"host"}, Funcs: []builtin.Function{
	{Name: "echo", Call: func(_ context.Context, in []byte) ([]byte, error) { return in, nil }},
	{Name: "pid", Call: func(context.Context, []byte) ([]byte, error) {
		return strconv.AppendInt(nil, int64(os.Getpid()), 10), nil
	}},
	{Name: "wait", Call: func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}},
	{Name: "rounds", Call: func(ctx context.Context, in []byte) (out []byte, err error) {
		for range 5 {
			if in, err = builtin.Import(ctx, "host", in); err != nil {
				return nil, err
			}
		}
		return in, nil
	}},
	{Name: "copy", Stream: abi.StreamBoth, Call: func(ctx context.Context, _ []byte) ([]byte, error) {
		r, w := builtin.Input(ctx), builtin.Output(ctx)
		_, err := io.Copy(w, r)
		return nil, err
	}},
}}

// raw is the sidecar's end of the wire, on which anything can be written.
type raw struct {
	in   io.ReadCloser
	out  io.WriteCloser
	r    *wire.Reader
	args []string
}

// message is one that was read, with its body.
type message struct {
	wire.Message
	name string
	body []byte
}

// read reads a message.
func (s *raw) read() (m message, err error) {
	if err = s.r.Next(&m.Message); err == nil {
		m.name = string(m.Name)
		m.body, err = s.r.Body(nil)
	}
	return m, err
}

// next is read. At the stream's end the program ends.
func (s *raw) next() message {
	m, err := s.read()
	switch {
	case err == io.EOF:
		os.Exit(0)
	case err != nil:
		fmt.Fprintln(os.Stderr, "the host:", err)
		os.Exit(9)
	}
	return m
}

// until reads messages until one with this verb.
func (s *raw) until(v wire.Verb) message {
	for {
		if m := s.next(); m.Verb == v {
			return m
		}
	}
}

func (s *raw) print(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

func (s *raw) done(id uint64, body []byte) {
	s.print("DONE %d 0\nContent-Length: %d\n\n%s", id, len(body), body)
}

func (s *raw) hello(manifest string) {
	s.print("HELLO 1\nContent-Length: %d\n\n%s", len(manifest), manifest)
}

const manifest = `{"name":"defect","version":"%s","threads":"%s","functions":{"do":{},"echo":{},"pid":{},"flow":{"stream":"both"}},"wants":{"host":{}},"services":[%s]}`

const stateful = `{"name":"defect","version":"1.0.0","functions":{"echo":{},"pid":{}},"services":["configure","save","resume"],"keys":{"state":"1"}}`

// noted makes a file, a moment after BYE.
func noted(s *raw) {
	time.Sleep(50 * time.Millisecond)
	if err := os.WriteFile(s.args[1], nil, 0o600); err != nil {
		panic(err)
	}
}

// defect is what is wrong with a sidecar: how it begins, and what its function do does. Without one of them that is as it should be.
type defect struct {
	threads  string
	services string
	hello    func(s *raw)
	do       func(s *raw, id uint64, in []byte)
	bye      func(s *raw)
	start    func(s *raw, id uint64)
	stop     func(s *raw, id uint64)
	by3      bool // it takes the descriptors
}

// forever does nothing any more.
func forever() { select {} }

// flood writes a message for ever, and does not read.
func flood(format string) func(*raw, uint64, []byte) {
	return func(s *raw, id uint64, _ []byte) {
		many := []byte(strings.Repeat(strings.ReplaceAll(format, "ID", fmt.Sprint(id)), 100))
		for n := 0; ; n++ {
			if _, err := s.out.Write(many); err != nil {
				os.Exit(0)
			}
		}
	}
}

// asks calls the host for ever, for the call that of says, and does not read.
func asks(of func(id uint64) uint64, size int) func(*raw, uint64, []byte) {
	return func(s *raw, id uint64, _ []byte) {
		for n := 1; ; n++ {
			if _, err := fmt.Fprintf(s.out, "CALL %d host\nFor: %d\nContent-Length: %d\n\n%s", n, of(id), size, make([]byte, size)); err != nil {
				os.Exit(0)
			}
		}
	}
}

var defects = map[string]*defect{
	"none":                {},
	"none by descriptors": {by3: true},
	"half a head": {do: func(s *raw, id uint64, _ []byte) {
		s.print("DONE %d 0\nContent-Le", id)
		os.Exit(0)
	}},
	"an endless head": {do: func(s *raw, id uint64, _ []byte) {
		s.print("DONE %d 0\n", id)
		flood("x")(s, id, nil)
	}},
	"an endless head of lines": {do: func(s *raw, id uint64, _ []byte) {
		s.print("DONE %d 0\n", id)
		flood("Name: value\n")(s, id, nil)
	}},
	"a length that is too large": {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 0\nContent-Length: 100\n\nshort", id); forever() }},
	"a length that is too small": {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 0\nContent-Length: 2\n\nhello\n", id) }},
	"a length that is no number": {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 0\nContent-Length: 0x5\n\nhello", id) }},
	"a length beyond all bounds": {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 0\nContent-Length: 9000000000000\n\nhello", id) }},
	"a wrong id":                 {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 0\n\n", id+7) }},
	"two answers":                {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 0\n\nDONE %d 0\n\n", id, id) }},
	"late": {do: func(s *raw, id uint64, _ []byte) {
		s.until(wire.Cancel)
		s.done(id, []byte("late"))
	}},
	"garbage":               {do: func(s *raw, _ uint64, _ []byte) { s.print("\x00\x01\x02\xff\n\n"); forever() }},
	"a second hello":        {do: func(s *raw, _ uint64, _ []byte) { s.hello("{}") }},
	"a status that is none": {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 99999999999\n\n", id) }},
	"no hello":              {hello: func(*raw) { forever() }},
	"another version":       {hello: func(s *raw) { s.print("HELLO 2\n\n"); forever() }},
	"a bad manifest":        {hello: func(s *raw) { s.hello(`{"name":"x","version":"1","surprise":1}`); forever() }},
	"half a hello":          {hello: func(s *raw) { s.print("HELLO 1\nContent-Length: 500\n\n{"); os.Exit(4) }},
	"a call before hello":   {hello: func(s *raw) { s.print("CALL 1 host\n\n"); forever() }},
	"exits before hello": {hello: func(s *raw) {
		fmt.Println("usage: defect NAME")
		fmt.Fprintln(os.Stderr, "no such defect")
		os.Exit(5)
	}},
	"no answer":             {do: func(*raw, uint64, []byte) { forever() }},
	"no answer, many":       {threads: "concurrent", do: func(s *raw, id uint64, _ []byte) { s.print("CALL %d host\nFor: %d\n\n", id, id) }},
	"log lines without end": {do: flood("LOG info\nFor: ID\nContent-Length: 20\n\n01234567890123456789")},
	"large log lines without end": {threads: "concurrent", do: func(s *raw, id uint64, _ []byte) {
		s.print("CALL 1 host\nFor: %d\n\n", id) // which does not return
		go flood(fmt.Sprintf("LOG info\nFor: ID\nContent-Length: 5000\n\n%5000s", "x"))(s, id, nil)
	}},
	"progress without end":   {do: flood("PROGRESS ID 1 2\n\n")},
	"MORE without end":       {do: flood("MORE ID 9223372036854775807\n\n")},
	"pieces for no stream":   {do: flood("PART ID\nContent-Length: 5\n\nhello")},
	"BYE without end":        {do: flood("BYE\n\n")},
	"host calls without end": {do: asks(func(id uint64) uint64 { return id }, 5)},
	"strays without end":     {do: asks(func(uint64) uint64 { return 77 }, 5)},
	"host calls too large":   {do: asks(func(id uint64) uint64 { return id }, 300<<10)},
	"a piece beyond what was asked for": {do: func(s *raw, id uint64, _ []byte) {
		s.print("PART %d\nContent-Length: %d\n\n%s", id, 70000, make([]byte, 70000))
		forever()
	}},
	"exits within a body": {do: func(s *raw, id uint64, _ []byte) {
		fmt.Fprintln(os.Stderr, "last words")
		s.print("DONE %d 0\nContent-Length: 100\n\nhalf", id)
		os.Exit(3)
	}},
	"killed within a body": {do: func(s *raw, id uint64, _ []byte) {
		s.print("DONE %d 0\nContent-Length: 100\n\nhalf", id)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		forever()
	}},
	"exits": {do: func(*raw, uint64, []byte) {
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(7)
	}},
	"a print": {do: func(s *raw, id uint64, _ []byte) { s.print("found 3 files\n"); s.done(id, nil) }},
	"a print before hello": {hello: func(s *raw) {
		s.print("loading the model\n")
		s.hello(fmt.Sprintf(manifest, "1.0.0", "serial", ""))
	}},
	"only prints": {hello: func(s *raw) { s.print("press any key\n"); forever() }},
	"prints beside": {by3: true, hello: func(s *raw) {
		fmt.Println(strings.Repeat("much before hello\n", 20000))
		s.hello(fmt.Sprintf(manifest, "1.0.0", "serial", ""))
	}, do: func(*raw, uint64, []byte) {
		fmt.Print(strings.Repeat("much in a call\n", 20000), "its last print\n")
		os.Exit(6)
	}},
	"closes its input":  {do: func(s *raw, id uint64, _ []byte) { s.in.Close(); s.done(id, nil); forever() }},
	"closes its output": {do: func(s *raw, _ uint64, _ []byte) { s.out.Close(); forever() }},
	"a host call": {do: func(s *raw, id uint64, in []byte) {
		s.print("CALL 1 host\nFor: %d\nContent-Length: %d\n\n%s", id, len(in), in)
		a := s.until(wire.Done)
		s.done(id, fmt.Appendf(nil, "%d %s", a.Status, a.body))
	}},
	"a host call, and exits": {do: func(s *raw, id uint64, _ []byte) {
		s.print("CALL 1 host\nFor: %d\n\n", id)
		time.Sleep(20 * time.Millisecond)
		os.Exit(3)
	}},
	"host calls for others": {do: func(s *raw, id uint64, _ []byte) {
		s.print("CALL 1 host\nFor: %d\n\n", id+100)
		a := s.until(wire.Done)
		s.print("CALL 1 host\nFor: %d\n\nCALL 2 unknown\nFor: %d\n\n", max(id-1, 1)+200*btou(id == 1), id)
		b, c := s.until(wire.Done), message{}
		if c = s.until(wire.Done); b.ID != 1 {
			b, c = c, b
		}
		s.done(id, fmt.Appendf(nil, "%d %d %d", a.Status, b.Status, c.Status))
	}},
	"panics": {do: func(s *raw, id uint64, _ []byte) { s.print("DONE %d 5\nContent-Length: 4\n\noops", id) }},
	"another manifest": {hello: func(s *raw) {
		s.hello(fmt.Sprintf(manifest, second(s.args[1]), "serial", ""))
	}, do: func(*raw, uint64, []byte) { os.Exit(3) }},
	"a child": {do: func(s *raw, id uint64, _ []byte) {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		s.done(id, strconv.AppendInt(nil, int64(cmd.Process.Pid), 10))
	}},
	"20 children": {do: func(s *raw, id uint64, _ []byte) {
		var pids []string
		for range 20 {
			cmd := exec.Command("sh", "-c", "sleep 1000 & sleep 1000")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				panic(err)
			}
			pids = append(pids, strconv.Itoa(cmd.Process.Pid))
		}
		s.done(id, []byte(strings.Join(pids, " ")))
	}},
	"leaves": {do: func(s *raw, id uint64, _ []byte) { s.print("BYE\n\n"); s.done(id, []byte("gone soon")) }},
	"leaves within a call": {threads: "concurrent", do: func(s *raw, id uint64, _ []byte) {
		s.print("BYE\n\n")
		time.AfterFunc(50*time.Millisecond, func() { s.done(id, []byte("done after BYE")) })
	}},
	"deaf to BYE":   {bye: func(*raw) { forever() }},
	"does not stop": {services: `"stop"`, stop: func(*raw, uint64) { forever() }},
	"exits in stop": {services: `"stop"`, stop: func(*raw, uint64) { os.Exit(3) }},
	"fails in stop": {services: `"stop"`, stop: func(s *raw, id uint64) {
		s.print("DONE %d 3\nContent-Length: 19\n\nthe till stays open", id)
	}},
	"does not start":     {services: `"start"`, start: func(*raw, uint64) { forever() }},
	"exits in start":     {services: `"start"`, start: func(*raw, uint64) { os.Exit(3) }},
	"no service returns": {hello: func(s *raw) { s.hello(stateful) }, do: func(*raw, uint64, []byte) { forever() }},
	"is refused":         {hello: func(s *raw) { s.hello(`{"name":"x","version":"1","imports":{"nobody_has":{}}}`) }, bye: noted},
	"fails to start":     {services: `"start"`, start: func(s *raw, id uint64) { s.print("DONE %d 1\n\n", id) }, bye: noted},
	"another manifest, and is told BYE": {hello: func(s *raw) {
		s.hello(fmt.Sprintf(manifest, second(s.args[2]), "serial", ""))
	}, do: func(*raw, uint64, []byte) { os.Exit(3) }, bye: noted},
	"slow": {hello: func(s *raw) {
		time.Sleep(time.Duration(len(second(s.args[1]))) * 100 * time.Millisecond)
		s.hello(fmt.Sprintf(manifest, "1.0.0", "serial", ""))
	}},
	"small bodies": {hello: func(s *raw) {
		m := fmt.Sprintf(manifest, "1.0.0", "serial", "")
		s.print("HELLO 1\nMax-Body: 1000\nContent-Length: %d\n\n%s", len(m), m)
	}},
	"tiny reads": {hello: func(s *raw) {
		s.r = wire.NewReader(tiny{s.in}, wire.MaxBody)
		s.hello(fmt.Sprintf(manifest, "1.0.0", "serial", ""))
	}},
}

func btou(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// tiny is a reader that takes little at a time.
type tiny struct{ io.Reader }

func (t tiny) Read(b []byte) (int, error) { return t.Reader.Read(b[:min(len(b), 701)]) }

// second is "1.0.0" for the first process that asks for it at a path, and then something longer.
func second(path string) string {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "2.0.0-second"
	}
	f.Close()
	return "1.0.0"
}

// defective is the program.
func defective(args []string) {
	d := defects[args[0]]
	s := &raw{in: os.Stdin, out: os.Stdout, args: args}
	if d.by3 {
		s.in, s.out = os.NewFile(3, "in"), os.NewFile(4, "out")
	}
	s.r = wire.NewReader(s.in, wire.MaxBody)
	threads := d.threads
	if threads == "" {
		threads = "serial"
	}
	if d.hello != nil {
		d.hello(s)
	} else {
		s.hello(fmt.Sprintf(manifest, "1.0.0", threads, d.services))
	}
	flows := map[uint64]*flow{}
	for {
		m := s.next()
		f := flows[m.ID]
		switch {
		case m.Verb == wire.Bye:
			if d.bye != nil {
				d.bye(s)
			}
			os.Exit(0)
		case m.Verb == wire.Part && f != nil:
			switch {
			case m.Broken:
				s.print("DONE %d 1\nContent-Length: 6\n\nbroken", m.ID)
				delete(flows, m.ID)
			case bytes.HasPrefix(m.body, []byte("exit")):
				os.Exit(3)
			default:
				f.pending, f.ended = append(f.pending, m.body...), len(m.body) == 0
			}
		case m.Verb == wire.Cancel && f != nil, m.Verb == wire.More && m.N == 0 && f != nil:
			s.print("DONE %d 4\n\n", m.ID)
			delete(flows, m.ID)
		case m.Verb == wire.More && f != nil:
			f.credit += int(m.N)
		case m.Verb != wire.Call:
		case m.name == "flow":
			flows[m.ID] = &flow{credit: wire.Window}
		case m.name == "echo":
			s.done(m.ID, m.body)
		case m.name == "pid":
			s.done(m.ID, strconv.AppendInt(nil, int64(os.Getpid()), 10))
		case m.name == wire.Start:
			d.start(s, m.ID)
		case m.name == wire.Stop:
			d.stop(s, m.ID)
		default:
			d.do(s, m.ID, m.body)
		}
		if f = flows[m.ID]; f != nil && m.Verb != wire.Call && f.pass(s, m.ID) {
			delete(flows, m.ID)
		}
	}
}

// flow is a call whose output is its input, as it comes.
type flow struct {
	pending []byte
	credit  int
	ended   bool
}

// pass sends what may be sent, and asks for as much. It reports whether all is done.
func (f *flow) pass(s *raw, id uint64) (over bool) {
	if n := min(f.credit, len(f.pending)); n > 0 {
		s.print("PART %d\nContent-Length: %d\n\n%s", id, n, f.pending[:n])
		f.pending, f.credit = f.pending[n:], f.credit-n
		s.print("MORE %d %d\n\n", id, n)
	}
	if over = f.ended && len(f.pending) == 0; over {
		s.done(id, nil)
	}
	return over
}
