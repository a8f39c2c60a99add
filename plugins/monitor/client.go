package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// longestAnswer is how many bytes of an answer a client reads: 10,000 plug-ins with ten hooks each have a quarter of that.
const longestAnswer = 64 << 20

// longestRefusal is how many bytes of a host's reason an error has.
const longestRefusal = 1000

// Client asks a host for pictures of its system. It is for one goroutine at a time.
type Client struct {
	path  string
	conn  net.Conn
	lines *bufio.Reader
	known bool // the host has answered before
}

// Dial connects to the socket at which a host serves its system. What the host sends is not believed to be well-meant: it is bounded, and texts in it are as they
// came, for the caller to escape. Errors are of the type *Error: ErrPath where what is there is no socket, ErrNoHost where nobody listens,
// ErrBusy where as many others wait as may; or, where ctx has ended, its cause.
func Dial(ctx context.Context, path string) (*Client, error) {
	all, err := whole(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(all)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Path: all, Found: "nothing", Expected: "the socket of a host", Kind: ErrNoHost, Remedy: "Start the host; it makes its socket by monitor.Serve"}
	case err != nil:
		return nil, &Error{Path: all, Expected: "the socket of a host", Kind: ErrPath, Err: err, Remedy: pathRemedy}
	case info.Mode().Type() != fs.ModeSocket:
		return nil, &Error{Path: all, Found: kindOf(info), Expected: "the socket of a host", Kind: ErrPath, Remedy: pathRemedy}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", all)
	switch {
	case err == nil:
		return &Client{path: all, conn: conn, lines: bufio.NewReader(conn)}, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case nobody(err):
		return nil, &Error{Path: all, Found: "a socket on which nobody listens", Expected: "that of a host that runs", Kind: ErrNoHost, Remedy: "Start the host"}
	case errors.Is(err, syscall.EAGAIN): // as many wait as may
		return nil, &Error{Path: all, Found: "a host that takes no more clients now", Expected: "one with room for another", Kind: ErrBusy, Err: err,
			Remedy: "Try again; see whether the host is stopped"}
	case errors.Is(err, fs.ErrPermission):
		return nil, &Error{Path: all, Found: "a socket that this user may not connect to", Expected: "one of this user's", Kind: ErrPath, Err: err,
			Remedy: "Ask as the user of the host"}
	}
	return nil, &Error{Path: all, Expected: "the socket of a host", Kind: ErrPath, Err: err, Remedy: pathRemedy}
}

const pathRemedy = "Name the path that the host gives to monitor.Serve"

// Snapshot asks for a picture. A host gives up who has not asked for 2 minutes; a Client that was answered before connects anew then, by itself, and once. When ctx ends, or after any error, the
// client is of no use any more but to be closed. Errors are of the type *Error, or the cause of ctx. A host that has ended is of the kind ErrNoHost.
func (c *Client) Snapshot(ctx context.Context) (*Snapshot, error) {
	line, err := c.ask(ctx)
	if err != nil && c.known && !errors.Is(err, errLong) && ctx.Err() == nil {
		again, failed := Dial(ctx, c.path)
		switch {
		case errors.Is(failed, ErrNoHost):
			return nil, c.ended(err)
		case failed != nil:
			return nil, failed
		}
		_ = c.conn.Close()
		c.conn, c.lines = again.conn, again.lines
		line, err = c.ask(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, errLong):
		return nil, &Error{Path: c.path, Found: fmt.Sprintf("an answer of more than %d bytes", longestAnswer), Expected: "a picture of plug-ins", Kind: ErrAnswer}
	case err != nil && !c.known:
		return nil, &Error{Path: c.path, Found: "no answer", Expected: "a picture of plug-ins", Kind: ErrNoHost, Err: err, Remedy: "The host has ended, or this is another program's socket"}
	case err != nil:
		return nil, c.ended(err)
	}
	var answer struct {
		refusal
		Snapshot
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return nil, &Error{Path: c.path, Found: "an answer that is no JSON of a picture", Expected: "a picture of plug-ins", Kind: ErrAnswer, Err: err,
			Remedy: "This may be another program's socket"}
	}
	switch {
	case answer.refusal.Error == busy:
		return nil, &Error{Path: c.path, Found: "a host with as many clients as it allows", Expected: "one with room for another", Kind: ErrBusy, Remedy: "End one of them, or try again"}
	case answer.refusal.Error != "":
		return nil, &Error{Path: c.path, Found: "a host that says: " + answer.refusal.Error[:min(len(answer.refusal.Error), longestRefusal)], Kind: ErrAnswer}
	case answer.Format != Format:
		return nil, &Error{Path: c.path, Found: fmt.Sprintf("a picture of the format %d", answer.Format), Expected: fmt.Sprintf("the format %d", Format), Kind: ErrAnswer,
			Remedy: "Use the version of Ferrule that the host has"}
	}
	c.known = true
	return &answer.Snapshot, nil
}

// errLong is of an answer that is longer than any that there should be.
var errLong = errors.New("too long")

// ended is the error of a host that has answered before, and whose connection has failed.
func (c *Client) ended(err error) error {
	return &Error{Path: c.path, Found: "a host that has ended, or serves its plug-ins no more", Kind: ErrNoHost, Err: err, Remedy: "Start it again"}
}

// ask asks once, and reads the answer.
func (c *Client) ask(ctx context.Context) ([]byte, error) {
	conn := c.conn
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	_, _ = io.WriteString(conn, request+"\n") // where that fails, what a host has said before it closed the connection is still to be read
	return c.line()
}

// line reads an answer.
func (c *Client) line() (all []byte, err error) {
	for {
		part, err := c.lines.ReadSlice('\n')
		if len(all)+len(part) > longestAnswer {
			return nil, errLong
		}
		all = append(all, part...)
		if err == nil {
			return all, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
	}
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }
