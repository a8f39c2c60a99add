// Package reexec is for tests that need several processes: the test's program again, with a task.
package reexec

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

const variable = "FERRULE_TEST_TASK"

// Main runs the tests, or a task where there is one. The task's error is printed behind "error: ", and the exit status is 1 then.
func Main[T any](m *testing.M, do func(T) error) {
	text := os.Getenv(variable)
	if text == "" {
		os.Exit(m.Run())
	}
	var task T
	err := json.Unmarshal([]byte(text), &task)
	if err == nil {
		err = do(task)
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Command is this program, to do a task, which goes there as JSON.
func Command(t testing.TB, task any) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), variable+"="+string(text))
	cmd.Stderr = os.Stderr
	return cmd
}

// Long is for how long something is repeated: as FERRULE_STRESS says, such as 10m, or short.
func Long(t testing.TB, short time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv("FERRULE_STRESS")
	if text == "" {
		return short
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("FERRULE_STRESS: %v", err)
	}
	return long
}
