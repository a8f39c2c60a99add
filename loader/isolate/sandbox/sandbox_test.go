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

func TestPolicyThatMakesNoSense(t *testing.T) {
	for want, p := range map[string]Policy{
		"Policy.Memory is -1":                            {Memory: -1},
		"Policy.CPU is -1":                               {CPU: -1},
		"Policy.Time is -1":                              {Time: -1},
		"Policy.Processes is -1":                         {Processes: -1},
		"Policy.Files is -1":                             {Files: -1},
		"Policy.Connect has port 0, expected 1 to 65535": {Connect: []uint16{80, 0}},
		"empty path":                                     {Write: []string{""}},
	} {
		_, err := p.encode()
		assert.ErrorContains(t, err, want)
	}
	if runtime.GOOS != "windows" {
		_, err := Policy{Read: []string{"a\x00b"}}.encode()
		assert.ErrorContains(t, err, `a\x00b", expected an absolute path`)
	}
}

func TestWorkerRefusesWhatItDoesNotKnow(t *testing.T) {
	for config, want := range map[string]string{
		`{"memory":1,"stars":5}`: "stars",
		`{"read":["relative"]}`:  `Policy.Read has "relative", expected an absolute path`,
		`{"memory":-5}`:          "Policy.Memory is -5",
		``:                       "the policy that the host sent",
		`{"memory":"much"}`:      "the policy that the host sent",
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
		"sandbox: this system cannot give what the policy asks for: one layer: there is none; "+
			"another: it is broken; set Policy.BestEffort to open the plug-in without")
	assert.NoError(t, r.err(&Policy{BestEffort: true}))
}
