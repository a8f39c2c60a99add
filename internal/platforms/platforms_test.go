package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What `go test -json` writes: subtests, a skip with its reason, a failure, a crash, and a package that does not build.
const events = `{"Action":"start","Package":"m/loader"}
{"Action":"run","Package":"m/loader","Test":"TestOpen"}
{"Action":"run","Package":"m/loader","Test":"TestOpen/in-process"}
{"Action":"pass","Package":"m/loader","Test":"TestOpen/in-process"}
{"Action":"run","Package":"m/loader","Test":"TestOpen/isolated"}
{"Action":"pass","Package":"m/loader","Test":"TestOpen/isolated"}
{"Action":"pass","Package":"m/loader","Test":"TestOpen"}
{"Action":"output","Package":"m/loader","Test":"TestSkipped","Output":"    open_test.go:12: only Linux has it\n"}
{"Action":"skip","Package":"m/loader","Test":"TestSkipped"}
{"Action":"output","Package":"m/loader","Test":"TestBad/one","Output":"    open_test.go:13: found 1\n"}
{"Action":"fail","Package":"m/loader","Test":"TestBad/one"}
{"Action":"fail","Package":"m/loader","Test":"TestBad"}
{"Action":"fail","Package":"m/loader"}
{"Action":"output","Package":"m/abi","Test":"TestCrash","Output":"panic: oh\n"}
{"Action":"output","Package":"m/abi","Output":"exit status 2\n"}
{"Action":"fail","Package":"m/abi"}
FAIL	m/broken [build failed]
{"Action":"fail","Package":"m/broken"}
`

func TestParse(t *testing.T) {
	var log strings.Builder
	res, err := parse(strings.NewReader(events), &log)
	require.NoError(t, err)
	assert.Equal(t, 3, res.ran, "two subtests and one that failed")
	assert.Equal(t, 2, res.passed)
	assert.Equal(t, 1, res.isolated)
	assert.Equal(t, map[string][]string{"only Linux has it": {"m/loader.TestSkipped"}}, res.skipped)
	assert.Equal(t, []string{"m/loader TestBad/one", "m/abi", "m/broken"}, res.failed)
	assert.Contains(t, res.output["m/loader TestBad/one"], "found 1")
	assert.Contains(t, res.output["m/abi"], "exit status 2")
	assert.Contains(t, log.String(), "[build failed]")
	assert.Equal(t, 1, res.left())

	sum := results{}
	sum.add(res)
	sum.add(res)
	assert.Equal(t, 6, sum.ran)
	assert.Equal(t, 1, sum.left(), "the same test in two runs is one that is left out")
}

func TestParseNothing(t *testing.T) {
	res, err := parse(strings.NewReader(""), io.Discard)
	require.NoError(t, err)
	assert.Zero(t, res.ran)
	assert.Empty(t, res.failed)
}

func TestTableSaysWhatWasRun(t *testing.T) {
	ran := func(name, how string, tested, built []run) *outcome {
		o := &outcome{platform: &platform{name: name, how: how}, tested: tested, built: built}
		o.ran, o.passed, o.isolated = 9, 9, 3
		return o
	}
	outcomes := []*outcome{
		ran("linux/amd64, newest Go", "Go 1.27.1", []run{{cgo: true, tests: whole}, {portable: true, tests: calls}}, nil),
		ran("linux/arm64", "qemu-user 7.2", []run{{cgo: true, tests: whole}}, []run{{portable: true}}),
		{platform: &platform{name: "linux/s390x", how: "qemu-user 7.2", note: "no plug-ins"}, results: results{ran: 2, passed: 2},
			tested: []run{{tests: []string{"./abi"}}}, built: []run{{}}},
		{platform: &platform{name: "darwin/arm64"}, built: []run{{}, {portable: true}}},
		{platform: &platform{name: "windows/amd64"}, notHad: errors.New("no Wine"), built: []run{{}}},
		ran(compilers, "gcc", nil, nil),
	}
	want := `| | cgo on | cgo off | crossing | isolated | |
|---|---|---|---|---|---|
| linux/amd64, newest Go | tested | tested | direct, portable | tested | natively |
| linux/arm64 | tested | built | direct, (portable) | tested | qemu-user 7.2 |
| linux/s390x |  | layout |  |  | qemu-user 7.2; no plug-ins |
| darwin/arm64 |  | built | (direct), (portable) |  | built and vetted, tests included; not run |
| windows/amd64 |  |  |  |  | not had |
`
	assert.Equal(t, want, table(outcomes))

	var lines []string
	for _, o := range outcomes {
		lines = append(lines, o.line())
	}
	assert.Equal(t, []string{
		"linux/amd64, newest Go (Go 1.27.1): ran 9, passed 9",
		"linux/arm64 (qemu-user 7.2): ran 9, passed 9",
		"linux/s390x (qemu-user 7.2): ran 2, passed 2",
		"darwin/arm64: built and vetted, tests included; not run",
		"windows/amd64: not had: no Wine",
		"compilers (gcc): ran 9, passed 9",
	}, lines)
}
