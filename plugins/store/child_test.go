package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/internal/reexec"
	"github.com/ferrule-dev/ferrule/plugins/store"
)

// task is what a child does: this program again, in a process of its own.
type task struct {
	Do     string // the name of a task
	Folder string // the store's
	Text   string // of the file
	Log    string // a file that is appended to at each fill
	Seed   uint64
	Files  int
	Before map[string]string // what is to be done before the store is opened
}

// before is what a task may want, by name.
var before = map[string]func(string) error{}

// tasks are by name. What one prints, the parent reads; an error ends the child with it.
var tasks = map[string]func(task, *store.Store) error{
	"put":   taskPut,
	"stall": taskStall,
	"churn": taskChurn,
	"use":   taskUse,
}

func TestMain(m *testing.M) {
	reexec.Main(m, func(t task) error {
		for name, how := range t.Before {
			if err := before[name](how); err != nil {
				return err
			}
		}
		s, err := store.Open(t.Folder)
		if err != nil {
			return err
		}
		return tasks[t.Do](t, s)
	})
}

// start starts a child, and returns its lines.
func start(t testing.TB, do task) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := reexec.Command(t, do)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// line waits for a line with a beginning.
func line(t testing.TB, lines *bufio.Scanner, begins string) string {
	t.Helper()
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), begins) {
			return lines.Text()
		}
		require.NotContains(t, lines.Text(), "error:")
	}
	require.FailNow(t, "no such line", "%q: %v", begins, lines.Err())
	return ""
}

// note appends a line to a file.
func note(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	return errors.Join(err, f.Close())
}

// slowly fills with a text in pieces, and notes from where on.
func slowly(do task) store.Fill {
	return func(_ context.Context, half *store.Half, from int64) error {
		if do.Log != "" {
			if err := note(do.Log, fmt.Sprint(from)); err != nil {
				return err
			}
		}
		r := strings.NewReader(do.Text[from:])
		for {
			if _, err := io.CopyN(half, r, int64(len(do.Text)/4)+1); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// taskPut puts the file, and prints where it is.
func taskPut(do task, s *store.Store) error {
	file, err := s.Put(context.Background(), digestOf(do.Text), int64(len(do.Text)), "sample.so", slowly(do))
	if err == nil {
		fmt.Println("put", file.Path)
	}
	return err
}

// taskStall writes half of the file, and no more.
func taskStall(do task, s *store.Store) error {
	_, err := s.Put(context.Background(), digestOf(do.Text), int64(len(do.Text)), "sample.so", func(_ context.Context, half *store.Half, from int64) error {
		if _, err := half.Write([]byte(do.Text[from : len(do.Text)/2])); err != nil {
			return err
		}
		fmt.Println("half")
		select {}
	})
	return err
}

// taskUse uses the file until its standard input ends.
func taskUse(do task, s *store.Store) error {
	file, err := s.Find(context.Background(), digestOf(do.Text))
	if err != nil {
		return err
	}
	fmt.Println("use", file.Path)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// content is the text of a file of the churn.
func content(i int) string { return strings.Repeat(fmt.Sprintf("file %d\n", i), 3000+i*500) }

// taskChurn puts, finds, damages and deletes files until it is killed.
func taskChurn(do task, s *store.Store) error {
	r := rand.New(rand.NewPCG(do.Seed, 0))
	ctx := context.Background()
	fmt.Println("begin")
	for {
		text := content(r.IntN(do.Files))
		file, err := s.Put(ctx, digestOf(text), int64(len(text)), "sample.so", slowly(task{Text: text}))
		if err != nil {
			return err
		}
		switch r.IntN(8) {
		case 0: // what a disk may do
			_ = os.Chmod(file.Path, 0o755)
			_ = os.WriteFile(file.Path, []byte(text[1:]), 0)
			_ = os.Chmod(file.Path, 0o555)
		case 1:
			if _, _, err := s.GC(ctx, func(string) bool { return r.IntN(2) == 0 }, 0); err != nil {
				return err
			}
		case 2:
			if _, err := s.Put(ctx, "", -1, "sample.so", slowly(task{Text: text})); err != nil {
				return err
			}
		case 3:
			_ = s.Close() // what it used may go
			if s, err = store.Open(do.Folder); err != nil {
				return err
			}
		}
	}
}

// everything reads all files that are where whole ones are, without the store's code.
func everything(t testing.TB, folder string) (files []string) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(folder, "sha256", "*", "*"))
	require.NoError(t, err)
	return all
}
