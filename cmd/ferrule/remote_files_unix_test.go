//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/remote/nats"
)

// ofNodes reads one of the files that have nodes started.
func ofNodes(t *testing.T, name string) string {
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "examples", "remote", name))
	require.NoError(t, err)
	return string(text)
}

// servesAsANode runs the command of one of these files, with a library and a server that are here, and without credentials, which this server has none of. It returns how long the
// command's calls may take when it ends.
func servesAsANode(t *testing.T, words []string) (grace time.Duration) {
	require.Greater(t, len(words), 3)
	assert.Equal(t, []string{"/usr/local/bin/ferrule", "serve", "/usr/local/lib/ferrule/discount.so"}, words[:3])
	value := func(option string) *string {
		i := slices.Index(words, option)
		require.Positive(t, i, "%s in %q", option, words)
		require.Less(t, i+1, len(words), "%q", words)
		return &words[i+1]
	}
	assert.Regexp(t, `^nats://[^/@]+:4222$`, *value("--nats"))
	*value("--nats") = startNATS(t, natsserver.Options{}).URL()
	if i := slices.Index(words, "--nats-creds"); i > 0 {
		words = slices.Delete(words, i, i+2)
	}
	grace, err := time.ParseDuration(*value("--grace"))
	require.NoError(t, err)
	words[2] = shouts(t)
	r := serving(t, nil, words[2:]...)
	p, err := loader.Open(r.address()+"@^2", nats.Plugin())
	require.NoError(t, err)
	assert.Equal(t, "done", result(t, p, "prints", ""))
	require.NoError(t, p.Close())
	r.signal(syscall.SIGTERM)
	assert.Zero(t, r.wait(), r.stderr())
	return grace
}

// unit reads a unit of systemd's: the values of each section's keys.
func unit(t *testing.T, text string) map[string]map[string][]string {
	all := map[string]map[string][]string{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if m := regexp.MustCompile(`^\[(\w+)\]$`).FindStringSubmatch(line); m != nil {
			section = m[1]
			require.Nil(t, all[section], line)
			all[section] = map[string][]string{}
			continue
		}
		m := regexp.MustCompile(`^([A-Z]\w+)=(.*)$`).FindStringSubmatch(line)
		require.NotNil(t, m, "found %q, expected KEY=VALUE", line)
		require.NotNil(t, all[section], "found %q outside of a section", line)
		all[section][m[1]] = append(all[section][m[1]], m[2])
	}
	return all
}

// The unit has the form that systemd reads, starts a node, and lets it leave.
func TestUnitOfANode(t *testing.T) {
	t.Parallel()
	const name = "ferrule-discount.service"
	text := ofNodes(t, name)
	u := unit(t, text)
	service := u["Service"]
	assert.Equal(t, []string{"multi-user.target"}, u["Install"]["WantedBy"])
	assert.Equal(t, []string{"0"}, u["Unit"]["StartLimitIntervalSec"], "it is started again for as long as the server is away")
	assert.Equal(t, []string{"always"}, service["Restart"])
	assert.Equal(t, []string{"2 3"}, service["RestartPreventExitStatus"])
	require.Len(t, service["ExecStart"], 1)
	words := strings.Fields(service["ExecStart"][0])
	assert.NotRegexp(t, `["'\\$;]`, service["ExecStart"][0], "words are what spaces part")
	// systemd has what LoadCredential names in the folder %d.
	require.Len(t, service["LoadCredential"], 1)
	credential, _, ok := strings.Cut(service["LoadCredential"][0], ":/")
	require.True(t, ok)
	assert.Contains(t, service["ExecStart"][0], " --nats-creds %d/"+credential+" ")
	stop, err := time.ParseDuration(service["TimeoutStopSec"][0])
	require.NoError(t, err)
	assert.Greater(t, stop, servesAsANode(t, words))

	t.Run("systemd", func(t *testing.T) {
		program, err := exec.LookPath("systemd-analyze")
		if err != nil {
			t.Skip("there is no systemd-analyze: apt-get install systemd")
		}
		verify := func(text string) string {
			file := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(text, words[0], binary)), 0o666))
			out, err := exec.Command(program, "verify", file).CombinedOutput()
			if err != nil && !bytes.Contains(out, []byte(name)) {
				t.Skipf("systemd-analyze verifies no unit here: %v: %s", err, out)
			}
			var said []string // other units of this system's may have faults of their own
			for line := range strings.Lines(string(out)) {
				if strings.Contains(line, name) {
					said = append(said, line)
				}
			}
			return strings.Join(said, "")
		}
		assert.Contains(t, verify(strings.ReplaceAll(text, "KillMode=mixed", "KillMode=mixd")), "mixd", "it says what is wrong")
		assert.Empty(t, verify(text))
	})
}

// instruction is one of a container file.
type instruction struct{ name, rest string }

func instructions(t *testing.T, text string) (all []instruction) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		require.NotRegexp(t, `\\$`, line)
		name, rest, ok := strings.Cut(line, " ")
		require.True(t, ok, line)
		require.Contains(t, []string{"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}, name)
		all = append(all, instruction{name, rest})
	}
	return all
}

// entry is a container's command: how it begins, and how it goes on where nobody says otherwise.
func entry(t *testing.T) (begin, rest []string) {
	for _, i := range instructions(t, ofNodes(t, "Containerfile")) {
		switch i.name {
		case "ENTRYPOINT":
			require.NoError(t, json.Unmarshal([]byte(i.rest), &begin), "a list: a shell would have the SIGTERM")
		case "CMD":
			require.NoError(t, json.Unmarshal([]byte(i.rest), &rest))
		}
	}
	return begin, rest
}

// The container file has two stages, of which the second has what the first has built, for the same system; and its command is a node.
func TestContainerOfANode(t *testing.T) {
	t.Parallel()
	text := ofNodes(t, "Containerfile")
	var stages, images, copied []string
	user := ""
	for _, i := range instructions(t, text) {
		words := strings.Fields(i.rest)
		switch i.name {
		case "FROM":
			images = append(images, words[0])
			stages = append(stages, "")
			if len(words) > 1 {
				require.Len(t, words, 3)
				require.Equal(t, "AS", words[1])
				stages[len(stages)-1] = words[2]
			}
			user = ""
		case "COPY":
			require.NotEmpty(t, stages, "FROM is first")
			if from, ok := strings.CutPrefix(words[0], "--from="); ok {
				require.Contains(t, stages[:len(stages)-1], from)
				require.Contains(t, text, " -o "+words[1]+" ", "it is built")
				words = words[1:]
			}
			require.Len(t, words, 2)
			copied = append(copied, words[1])
		case "USER":
			user = i.rest
		}
	}
	require.Len(t, images, 2)
	work, err := os.ReadFile(filepath.Join(fixture.Root(), "go.work"))
	require.NoError(t, err)
	release := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(work)
	require.NotNil(t, release)
	built := regexp.MustCompile(`^golang:([\d.]+)-(\w+)$`).FindStringSubmatch(images[0])
	require.NotNil(t, built, images[0])
	assert.Equal(t, string(release[1]), built[1])
	assert.Equal(t, "debian:"+built[2]+"-slim", images[1], "what was linked there runs here")
	assert.Regexp(t, `^[1-9]\d*:[1-9]\d*$`, user, "in numbers, as Kubernetes asks of runAsNonRoot")
	begin, rest := entry(t)
	assert.Subset(t, copied, []string{begin[0], begin[2]})
	servesAsANode(t, slices.Concat(begin, rest))
}

// What the manifest has of Kubernetes's objects: a field that is not here is one that they do not have, or that nobody has looked at.
type (
	meta struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	}
	selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	deployment struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
		Metadata   meta   `yaml:"metadata"`
		Spec       struct {
			Replicas int      `yaml:"replicas"`
			Selector selector `yaml:"selector"`
			Strategy struct {
				Type          string `yaml:"type"`
				RollingUpdate struct {
					MaxUnavailable *int `yaml:"maxUnavailable"`
					MaxSurge       *int `yaml:"maxSurge"`
				} `yaml:"rollingUpdate"`
			} `yaml:"strategy"`
			Template struct {
				Metadata meta    `yaml:"metadata"`
				Spec     podSpec `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	podSpec struct {
		TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
		AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
		SecurityContext               struct {
			RunAsNonRoot   bool `yaml:"runAsNonRoot"`
			RunAsUser      int  `yaml:"runAsUser"`
			RunAsGroup     int  `yaml:"runAsGroup"`
			FSGroup        int  `yaml:"fsGroup"`
			SeccompProfile struct {
				Type string `yaml:"type"`
			} `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Containers []container `yaml:"containers"`
		Volumes    []struct {
			Name   string `yaml:"name"`
			Secret *struct {
				SecretName  string `yaml:"secretName"`
				DefaultMode int    `yaml:"defaultMode"`
			} `yaml:"secret"`
			EmptyDir *struct {
				Medium    string `yaml:"medium"`
				SizeLimit string `yaml:"sizeLimit"`
			} `yaml:"emptyDir"`
		} `yaml:"volumes"`
	}
	container struct {
		Name      string   `yaml:"name"`
		Image     string   `yaml:"image"`
		Args      []string `yaml:"args"`
		Resources struct {
			Requests map[string]string `yaml:"requests"`
			Limits   map[string]string `yaml:"limits"`
		} `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string `yaml:"name"`
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	disruptionBudget struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
		Metadata   meta   `yaml:"metadata"`
		Spec       struct {
			MinAvailable int      `yaml:"minAvailable"`
			Selector     selector `yaml:"selector"`
		} `yaml:"spec"`
	}
)

// The manifest is YAML whose objects have Kubernetes's fields, name each other rightly, and start what the container file makes.
func TestManifestOfNodes(t *testing.T) {
	t.Parallel()
	text := ofNodes(t, "kubernetes.yaml")
	objects := yaml.NewDecoder(strings.NewReader(text))
	objects.KnownFields(true)
	var nodes deployment
	require.NoError(t, objects.Decode(&nodes))
	var stay disruptionBudget
	require.NoError(t, objects.Decode(&stay))
	require.True(t, errors.Is(objects.Decode(new(any)), io.EOF), "two objects")

	const label = `^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	assert.Equal(t, []string{"apps/v1", "Deployment"}, []string{nodes.APIVersion, nodes.Kind})
	assert.Equal(t, []string{"policy/v1", "PodDisruptionBudget"}, []string{stay.APIVersion, stay.Kind})
	assert.Regexp(t, label, nodes.Metadata.Name)
	assert.Regexp(t, label, stay.Metadata.Name)
	labels := nodes.Spec.Template.Metadata.Labels
	require.NotEmpty(t, labels)
	assert.Equal(t, labels, nodes.Spec.Selector.MatchLabels)
	assert.Equal(t, labels, stay.Spec.Selector.MatchLabels)
	assert.Less(t, stay.Spec.MinAvailable, nodes.Spec.Replicas, "a machine can be emptied")
	assert.Equal(t, "RollingUpdate", nodes.Spec.Strategy.Type)
	rolling := nodes.Spec.Strategy.RollingUpdate
	require.NotNil(t, rolling.MaxUnavailable)
	require.NotNil(t, rolling.MaxSurge)
	assert.Zero(t, *rolling.MaxUnavailable)
	assert.Positive(t, *rolling.MaxSurge, "or nothing can be rolled")

	pod := nodes.Spec.Template.Spec
	require.NotNil(t, pod.AutomountServiceAccountToken)
	assert.False(t, *pod.AutomountServiceAccountToken)
	assert.True(t, pod.SecurityContext.RunAsNonRoot)
	assert.Positive(t, pod.SecurityContext.RunAsUser)
	assert.Equal(t, pod.SecurityContext.RunAsGroup, pod.SecurityContext.FSGroup, "whose the secret's files are")
	assert.Equal(t, "RuntimeDefault", pod.SecurityContext.SeccompProfile.Type)
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]
	assert.Regexp(t, label, c.Name)
	assert.Contains(t, ofNodes(t, "Containerfile"), " -t "+c.Image+" ", "the image is the one that is built")
	quantity := `^\d+(m|Ki|Mi|Gi)?$`
	for _, all := range []map[string]string{c.Resources.Requests, c.Resources.Limits} {
		require.NotEmpty(t, all)
		for name, q := range all {
			assert.Contains(t, []string{"cpu", "memory"}, name)
			assert.Regexp(t, quantity, q)
		}
	}
	require.NotNil(t, c.SecurityContext.AllowPrivilegeEscalation)
	assert.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	assert.True(t, c.SecurityContext.ReadOnlyRootFilesystem)
	assert.Equal(t, []string{"ALL"}, c.SecurityContext.Capabilities.Drop)

	mounts := map[string]string{}
	for _, m := range c.VolumeMounts {
		assert.True(t, path.IsAbs(m.MountPath), m.MountPath)
		mounts[m.Name] = m.MountPath
	}
	secrets := 0
	for _, v := range pod.Volumes {
		where := mounts[v.Name]
		assert.NotEmpty(t, where, v.Name)
		delete(mounts, v.Name)
		assert.NotEqual(t, v.Secret == nil, v.EmptyDir == nil, "a volume is one thing")
		if v.EmptyDir != nil {
			assert.Regexp(t, quantity, v.EmptyDir.SizeLimit)
			continue
		}
		secrets++
		assert.Equal(t, 0o440, v.Secret.DefaultMode)
		at := slices.Index(c.Args, "--nats-creds") + 1
		require.Positive(t, at)
		assert.Equal(t, where, path.Dir(c.Args[at]))
		assert.Contains(t, text, "create secret generic "+v.Secret.SecretName+" --from-file="+path.Base(c.Args[at])+"=")
	}
	assert.Equal(t, 1, secrets)
	assert.Empty(t, mounts, "each mount has a volume")
	begin, _ := entry(t)
	grace := servesAsANode(t, slices.Concat(begin, c.Args))
	assert.Greater(t, time.Duration(pod.TerminationGracePeriodSeconds)*time.Second, grace)
}
