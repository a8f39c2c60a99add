package script_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/isolate"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/script"
)

const numerical = `# ferrule: name=numerical version=1.0.0
# ferrule: fn=solves in=json out=json fn=sorts in=bytes fn=text fn=later in=json out=json fn=fails in=json fn=well
import asyncio
import dataclasses

import numpy as np


@dataclasses.dataclass
class System:
    a: list[list[float]]
    b: list[float]


@dataclasses.dataclass
class Solved:
    x: np.ndarray
    rank: np.int64


def solves(system: System):
    return Solved(np.linalg.solve(system.a, system.b), np.linalg.matrix_rank(system.a))


def sorts(data):
    return np.sort(np.frombuffer(data, dtype=np.uint8)).tobytes()


def text(x: str) -> str:
    return str(np.array([int(n) for n in x.split()]).sum())


async def later(values):
    await asyncio.sleep(0)
    return {"mean": np.mean(values), "all": np.array(values) * 2}


def fails(values):
    return np.linalg.inv(np.array(values))


def well(x):
    return x + "!"
`

// withNumpy returns the virtual environment with numpy that make script makes, and an adapter for its Python.
func withNumpy(t *testing.T) (adapter, venv string) {
	t.Helper()
	venv = os.Getenv("FERRULE_NUMPY")
	if venv == "" {
		t.Skip("make script runs it: it makes a virtual environment with numpy, and names it in FERRULE_NUMPY")
	}
	python, err := filepath.EvalSymlinks(filepath.Join(venv, "bin", "python3"))
	require.NoError(t, err)
	adapter = filepath.Join(t.TempDir(), "python.so")
	require.NoError(t, script.BuildPython(t.Context(), adapter, python+"-config"))
	return adapter, venv
}

// numbers checks a script that uses numpy.
func numbers(t *testing.T, e engine.Engine) {
	t.Helper()
	p := opened(t, e, "numerical.py", numerical)
	for _, c := range [][3]string{
		{"solves", `{"a":[[2,0],[0,4]],"b":[2,2]}`, `{"x":[1.0,0.5],"rank":2}`},
		{"sorts", "\xffhello\x00", "\x00ehllo\xff"},
		{"text", "1 2 3", "6"},
		{"later", "[1,2,6]", `{"mean":3.0,"all":[2,4,12]}`},
	} {
		out, err := p.Call(t.Context(), c[0], []byte(c[1]))
		if assert.NoError(t, err, c[0]) {
			assert.Equal(t, c[2], string(out), c[0])
		}
	}
	_, err := p.Call(t.Context(), "fails", []byte("[[0,0],[0,0]]"))
	assert.ErrorContains(t, err, "LinAlgError: Singular matrix")
	_, err = p.Call(t.Context(), "solves", []byte(`{"a":[],"c":1}`))
	assert.ErrorIs(t, err, loader.ErrInvalid)
	well(t, p)
}

// A script uses a package in C, of a virtual environment, in a worker, in one that is shut in, and in this process.
func TestNumpy(t *testing.T) {
	adapter, venv := withNumpy(t)
	t.Run("worker", func(t *testing.T) {
		numbers(t, script.Engine(script.WithVirtualenv(venv), script.WithPython(adapter, nil)))
	})
	t.Run("sandbox", func(t *testing.T) {
		reads, err := script.PythonReads(adapter, venv)
		require.NoError(t, err)
		numbers(t, script.Engine(script.WithVirtualenv(venv), script.WithPython(adapter, isolate.Engine(sandbox.With(sandbox.Policy{Read: reads, Memory: 1 << 30})))))
	})
	t.Run("in place", func(t *testing.T) {
		// The Python of the other tests' adapter is in this process already.
		cmd := exec.Command(os.Args[0], "-test.run=^TestNumpyInPlace$", "-test.v")
		cmd.Env = append(os.Environ(), "FERRULE_TEST_NUMPY="+adapter) // and FERRULE_NUMPY
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		assert.Contains(t, string(out), "--- PASS: TestNumpyInPlace")
	})
}

// TestNumpyInPlace is the process of TestNumpy's last case.
func TestNumpyInPlace(t *testing.T) {
	adapter := os.Getenv("FERRULE_TEST_NUMPY")
	if adapter == "" {
		t.Skip("TestNumpy runs it")
	}
	venv := os.Getenv("FERRULE_NUMPY")
	e := script.Engine(script.WithVirtualenv(venv), script.WithPython(adapter, loader.Native()))
	numbers(t, e)
	numbers(t, e) // once more, in the same interpreter
	// Another virtual environment's packages are not to be had in it.
	another := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(another, "pyvenv.cfg"), nil, 0o600))
	_, err := loader.Open(write(t, "a.py", "# ferrule: name=a version=1\n"), loader.WithEngine(script.Engine(script.WithVirtualenv(another), script.WithPython(adapter, loader.Native()))))
	assert.ErrorIs(t, err, loader.ErrStart)
	assert.ErrorContains(t, err, "or all with one virtual environment")
	opened(t, script.Engine(script.WithPython(adapter, loader.Native())), "b.py", "# ferrule: name=b version=1\n")
}
