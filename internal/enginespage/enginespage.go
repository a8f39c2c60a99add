// Package enginespage holds docs/engines.md against what engines do: for the tests of engines, which stand in several modules.
package enginespage

import (
	"errors"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// The columns behind the rows' names, as the page has them.
const (
	Native = iota
	Worker
	Builtin
	Module
	Extism
	Sidecar
	Node
	JavaScript
	Python
	columns
)

// ErrAbsent is what a probe returns where an engine does not have what it is about: the cell says "no".
var ErrAbsent = errors.New("it is not there")

var (
	line  = regexp.MustCompile(`(?m)^\| [^|\n]+ (\|[^|\n]+)+\|$`)
	named = regexp.MustCompile("`(Err\\w+|\\*\\w+Error)`")
)

// Rows are the rows that a test has a probe for, with their cells, by column. held are the others, and by which tests. Each row of the page is to be one of
// these, and each of these on the page.
func Rows[P any](t *testing.T, probes map[string]P, held map[string]string) iter.Seq2[string, []string] {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", "engines.md"))
	require.NoError(t, err)
	all, order := map[string][]string{}, []string{}
	for _, text := range line.FindAllString(string(page), -1) {
		cells := strings.Split(strings.Trim(text, "|"), "|")
		if len(cells) != columns+1 {
			continue // another table's
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		all[cells[0]], order = cells[1:], append(order, cells[0])
		if _, ok := probes[cells[0]]; !ok {
			assert.Contains(t, held, cells[0], "nothing tries this row")
		}
	}
	require.NotEmpty(t, order)
	for row := range probes {
		assert.Contains(t, all, row, "a row that the page has not")
	}
	for row := range held {
		assert.Contains(t, all, row, "a row that the page has not")
	}
	return func(yield func(string, []string) bool) {
		for _, row := range order {
			if _, ok := probes[row]; ok && !yield(row, all[row]) {
				return
			}
		}
	}
}

// Judge checks what a probe returned against a cell: the errors that it names, ErrAbsent where it is "no", and none otherwise.
func Judge(t *testing.T, cell string, err error) {
	t.Helper()
	names := named.FindAllStringSubmatch(cell, -1)
	for _, name := range names {
		require.Contains(t, kinds, name[1])
		assert.True(t, kinds[name[1]](err), "%s: found %T: %v", name[1], err, err)
	}
	switch {
	case cell == "no":
		assert.Equal(t, ErrAbsent, err)
	case names == nil:
		assert.NoError(t, err)
	}
}

// kinds tell the errors that the page names.
var kinds = map[string]func(error) bool{
	"ErrNoHook": is(loader.ErrNoHook), "ErrMissingImport": is(loader.ErrMissingImport), "ErrFailed": is(loader.ErrFailed), "ErrCancelled": is(loader.ErrCancelled),
	"ErrOption": is(loader.ErrOption), "ErrUnsupported": is(loader.ErrUnsupported), "ErrState": is(loader.ErrState), "ErrNoStream": is(loader.ErrNoStream),
	"ErrPanic": is(loader.ErrPanic), "ErrNotHere": is(loader.ErrNotHere),
	"*CallError": as[*loader.CallError], "*CrashError": as[*loader.CrashError], "*DeadlineError": as[*loader.DeadlineError],
}

func is(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
