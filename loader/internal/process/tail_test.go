package process

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// hang is after how long something that must have ended is taken to hang. The machine may be busy.
const hang = 30 * time.Second

func within(t testing.TB, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(hang):
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s hangs\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}

// A writer is foreign code: it may be slow, panic, end its goroutine or not return. The output goes on.
func TestOutputWriters(t *testing.T) {
	for name, first := range map[string]func(){
		"takes all":          func() {},
		"panics":             func() { panic("a writer's") },
		"ends its goroutine": func() { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var got []byte
			calls := 0
			tail := NewTail(writerFunc(func(b []byte) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				if calls++; calls == 1 {
					first()
				}
				got = append(got, b...)
				return len(b), nil
			}))
			read, write, err := os.Pipe()
			require.NoError(t, err)
			tail.Read(read)
			_, err = write.WriteString("first\n")
			require.NoError(t, err)
			require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return calls == 1 }, hang, time.Millisecond)
			_, err = write.WriteString("second\n")
			require.NoError(t, err)
			require.NoError(t, write.Close())
			within(t, "the end of the output", func() { <-tail.written })
			assert.Contains(t, string(got), "second\n")
			assert.Equal(t, []string{"first", "second"}, tail.Lines())
		})
	}
}

// A writer that is slow misses something, and is told how much.
func TestOutputDropped(t *testing.T) {
	var mu sync.Mutex
	var got []byte
	blocked := make(chan struct{})
	tail := NewTail(writerFunc(func(b []byte) (int, error) {
		<-blocked
		mu.Lock()
		defer mu.Unlock()
		got = append(got, b...)
		return len(b), nil
	}))
	read, write, err := os.Pipe()
	require.NoError(t, err)
	tail.Read(read)
	block := make([]byte, 64<<10)
	const blocks = 3 * pendingBytes / (64 << 10)
	within(t, "a program that writes", func() {
		for range blocks {
			_, err := write.Write(block)
			require.NoError(t, err)
		}
		require.NoError(t, write.Close())
		<-tail.done
	})
	close(blocked)
	within(t, "the end of the output", func() { <-tail.written })
	assert.Less(t, len(got), 2*pendingBytes+1000)
	assert.Regexp(t, `\[\d+ bytes dropped: they came faster than they were taken\]`, string(got[len(got)-100:]))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// stuck is a writer that takes nothing until it is released.
type stuck chan struct{}

func (s stuck) Write(b []byte) (int, error) { <-s; return len(b), nil }

// Whoever is to take a program's output and does not keeps nobody waiting.
func TestOutputThatNobodyTakes(t *testing.T) {
	s := make(stuck)
	defer close(s)
	tail := NewTail(s)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	tail.Read(read)
	_, err = write.WriteString("last words\n")
	require.NoError(t, err)
	require.NoError(t, write.Close())
	within(t, "the end of the output", tail.Finish)
	assert.Equal(t, []string{"last words"}, tail.Lines())
}

// What is kept is the end, in lines and in bytes, and the writer gets all of it.
func TestTailKeepsTheEnd(t *testing.T) {
	var got strings.Builder // read when written is closed
	tail := NewTail(&got)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	tail.Read(read)
	assert.Empty(t, tail.Text())
	assert.Nil(t, tail.Lines())
	var all strings.Builder
	for i := range 3 * tailLines {
		fmt.Fprintf(&all, "line %d\n", i)
	}
	_, err = write.WriteString(all.String())
	require.NoError(t, err)
	require.NoError(t, write.Close())
	within(t, "the end of the output", func() { <-tail.done })
	lines := tail.Lines()
	require.Len(t, lines, tailLines)
	assert.Equal(t, fmt.Sprintf("line %d", 2*tailLines), lines[0])
	assert.Equal(t, fmt.Sprintf("line %d", 3*tailLines-1), lines[tailLines-1])
	assert.Equal(t, strings.TrimSuffix(all.String(), "\n"), tail.Text())
	within(t, "the writer", func() { <-tail.written })
	assert.Equal(t, all.String(), got.String())

	tail = NewTail(nil)
	read, write, err = os.Pipe()
	require.NoError(t, err)
	tail.Read(read)
	_, err = write.WriteString(strings.Repeat("long ", tailBytes) + "\xff end\n")
	require.NoError(t, err)
	require.NoError(t, write.Close())
	within(t, "the end of the output", func() { <-tail.done })
	text := tail.Text()
	assert.LessOrEqual(t, len(text), tailBytes+len("\uFFFD"))
	assert.True(t, strings.HasSuffix(text, "long \uFFFD end"), text[len(text)-20:])
	assert.Len(t, tail.Lines(), 1)
}

// What a Go runtime's report begins with is said, however long the report is.
func TestSaid(t *testing.T) {
	tail := NewTail(nil)
	read, write, err := os.Pipe()
	require.NoError(t, err)
	tail.Read(read)
	_, err = write.WriteString("fatal error: runtime: out of memory\n\ngoroutine 1 [running]:\n" + strings.Repeat("main.deep(0x1)\n\t/src/main.go:7\n", tailBytes/16))
	require.NoError(t, err)
	require.NoError(t, write.Close())
	within(t, "the end of the output", func() { <-tail.done })
	assert.NotContains(t, tail.Text(), "out of memory")
	said := tail.Said()
	assert.Equal(t, "fatal error: runtime: out of memory", said[0])
	assert.Equal(t, "\t/src/main.go:7", said[len(said)-1])
}
