package sandbox

import (
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPolicyReachesTheWorker(t *testing.T) {
	dir := t.TempDir()
	p := Policy{Read: []string{dir}, Write: []string{filepath.Join(dir, "w")}, Connect: []uint16{443},
		Listen: []uint16{0, 8080},
		Memory: 1 << 40, CPU: time.Minute, Time: time.Hour, Processes: 3, Files: 9, BestEffort: true}
	config, err := p.encode()
	require.NoError(t, err)
	got, err := decode(config)
	require.NoError(t, err)
	assert.Equal(t, p, got)

	config, err = Policy{}.encode()
	require.NoError(t, err)
	assert.Equal(t, "{}", string(config))
}

func TestRelativePathsAreTheHosts(t *testing.T) {
	t.Chdir(t.TempDir())
	want, err := filepath.Abs("fonts")
	require.NoError(t, err)
	p := Policy{Read: []string{"fonts"}}
	config, err := p.encode()
	require.NoError(t, err)
	got, err := decode(config)
	require.NoError(t, err)
	assert.Equal(t, []string{want}, got.Read)
	assert.Equal(t, []string{"fonts"}, p.Read, "the caller's own list")
}

// A policy that its owner changes later is what it was.
func TestPolicyIsCopied(t *testing.T) {
	p := Policy{Read: []string{"/a"}, Write: []string{"/b"}, Connect: []uint16{1}, Listen: []uint16{2}}
	copied, err := p.absolute()
	require.NoError(t, err)
	want, err := copied.encode()
	require.NoError(t, err)
	p.Read[0], p.Write[0], p.Connect[0], p.Listen[0] = "/other", "/other", 99, 99
	got, err := copied.encode()
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
}

func TestPolicyThatMakesNoSense(t *testing.T) {
	for want, p := range map[string]Policy{
		"found Policy.Memory with -1, expected 0 or more. Change Policy.Memory.":                                           {Memory: -1},
		"found Policy.CPU with -1, expected 0 or more. Change Policy.CPU.":                                                 {CPU: -1},
		"found Policy.Time with -1, expected 0 or more. Change Policy.Time.":                                               {Time: -1},
		"found Policy.Processes with -1, expected 0 or more. Change Policy.Processes.":                                     {Processes: -1},
		"found Policy.Files with -1, expected 0 or more. Change Policy.Files.":                                             {Files: -1},
		"found Policy.Connect with port 0, expected ports from 1 to 65535. Leave port 0 out of Policy.Connect.":            {Connect: []uint16{80, 0}},
		"found Policy.Read with an empty path, expected the paths of files and folders. Change the path in Policy.Read.":   {Read: []string{"/", ""}},
		"found Policy.Write with an empty path, expected the paths of files and folders. Change the path in Policy.Write.": {Write: []string{""}},
	} {
		_, err := p.encode()
		assert.EqualError(t, err, want)
	}
	if runtime.GOOS != "windows" {
		_, err := Policy{Read: []string{"a\x00b"}}.encode()
		assert.ErrorContains(t, err, `a\x00b", expected absolute paths. Change the path in Policy.Read.`)
	}
}

func TestWorkerRefusesWhatItDoesNotKnow(t *testing.T) {
	for config, want := range map[string]string{
		`{"memory":1,"stars":5}`: "stars",
		`{"read":["relative"]}`:  `Policy.Read with "relative", expected absolute paths`,
		`{"memory":-5}`:          "Policy.Memory with -5",
		``:                       "a policy that this worker does not understand",
		`{"memory":"much"}`:      "a policy that this worker does not understand",
	} {
		_, err := decode([]byte(config))
		assert.ErrorContains(t, err, want, config)
	}
}

func TestReportSaysAllThatIsMissing(t *testing.T) {
	r := new(report)
	assert.NoError(t, r.err(&Policy{}))
	r.lacks("one layer", "there is none")
	r.lacks("another", "it is broken")
	assert.EqualError(t, r.err(&Policy{}),
		"found a system without one layer (there is none), nor another (it is broken), expected all the layers that the policy needs. "+
			"Give the system what it lacks, or set Policy.BestEffort to open the plug-in without.")
	assert.NoError(t, r.err(&Policy{BestEffort: true}))
	r.lacksFor("a third", "it does not count", "run as another user")
	assert.ErrorContains(t, r.err(&Policy{}), "Give the system what it lacks; run as another user, or set Policy.BestEffort ")
}
