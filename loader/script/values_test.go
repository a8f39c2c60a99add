package script_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/script"
)

// What a call takes and gives that the adapter does by itself, and what it leaves to the module ferrule.
func TestPythonValues(t *testing.T) {
	const text = `# ferrule: name=values version=1.0.0
# ferrule: fn=forms fn=begun fn=replaced fn=count fn=surrogate fn=same in=json fn=takes in=json fn=echo
# ferrule: import=echo
import dataclasses
import sys

from ferrule import host


class Text(str):
    pass


@dataclasses.dataclass
class Node:
    name: str
    below: list["Node"] = dataclasses.field(default_factory=list)


def refused(*args, **named):
    try:
        host.echo(*args, **named)
    except TypeError as error:
        return str(error)


def forms():
    return [
        host.echo("é"), host.echo(value="b"), host.echo(), host.echo(b"\xc3\xa9"), host.echo(Text("s")), host.echo(bytearray(b"d")),
        host.echo({"a": [1, "é"]}), host.echo(Node("n")), host.echo.json([1]), host.echo.json(value=None), host.echo.json(b"\xef\xbb\xbf2"), list(host.echo.bytes(b"\xff")),
        refused(1, 2), refused(name=1), refused("a", value="b"),
    ]


def begun():
    print("begun", end="")


class Sink:
    flushed = 0

    def write(self, text):
        return len(text)

    def flush(self):
        Sink.flushed += 1


def replaced():
    sys.stdout = Sink()


def count():
    sys.stdout = sys.before
    return str(Sink.flushed)


def surrogate():
    return "\ud800"


def same(value):
    return value


def takes(node: Node):
    return node.below[0]


def echo(text):
    return text


sys.before = sys.stdout
`
	path := filepath.Join(t.TempDir(), "values.py")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	var lines bytes.Buffer
	p, err := loader.Open(path, loader.WithEngine(script.Engine(script.WithPython(fixture.PythonAdapter(t), nil))), loader.WithLogger(slog.New(slog.NewTextHandler(&lines, nil))),
		loader.WithHostFunc("echo", func(_ context.Context, in []byte) ([]byte, error) { return bytes.Clone(in), nil }))
	require.NoError(t, err)
	for _, c := range [][3]string{
		{"forms", "", `["é","b","","é","s","d","{\"a\":[1,\"é\"]}","{\"name\":\"n\",\"below\":[]}",[1],null,2,[255],` +
			`"echo: found 2 values, expected one, or none","echo: found a parameter by another name, expected value","echo: found a parameter by another name, expected value"]`},
		{"begun", "", ""}, {"replaced", "", ""}, {"count", "", "1"},
		{"same", "\ufeff{}", "{}"}, {"same", `"é"`, "é"}, {"same", "1.5", "1.5"}, {"same", "true", "true"}, {"same", "null", ""},
		{"takes", `{"name":"a","below":[{"name":"b","below":[]}]}`, `{"name":"b","below":[]}`}, {"takes", `{"name":"a","below":[{"name":"c"}]}`, `{"name":"c","below":[]}`},
	} {
		out, err := p.Call(t.Context(), c[0], []byte(c[1]))
		require.NoError(t, err, c[0])
		assert.Equal(t, c[2], string(out), "%s of %s", c[0], c[1])
	}
	_, err = p.Call(t.Context(), "surrogate", nil)
	assert.ErrorIs(t, err, loader.ErrFailed)
	assert.ErrorContains(t, err, "UnicodeEncodeError")
	_, err = p.Call(t.Context(), "echo", []byte("\xff"))
	assert.ErrorIs(t, err, loader.ErrInvalid)
	assert.ErrorContains(t, err, "UnicodeDecodeError")
	_, err = p.Call(t.Context(), "takes", []byte(`{"nam":"a"}`))
	assert.ErrorIs(t, err, loader.ErrInvalid)
	require.NoError(t, p.Close())
	assert.Contains(t, lines.String(), "msg=begun")
}
