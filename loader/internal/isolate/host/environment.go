package host

import (
	"os"
	"strings"
)

// timeZone is the one variable of the host's own environment that workers get, where WithEnv does not set it: without it a
// plug-in tells another local time in a worker than in the host, and no error.
const timeZone = "TZ"

// environment returns the environment of a worker: what the host's WithEnv says, and the time zone.
func environment(own []string) []string {
	env := own[:len(own):len(own)]
	if zone, set := os.LookupEnv(timeZone); set && !has(own, timeZone) {
		env = append(env, timeZone+"="+zone)
	}
	return env
}

func has(env []string, name string) bool {
	for _, variable := range env {
		if key, _, _ := strings.Cut(variable, "="); key == name {
			return true
		}
	}
	return false
}

// bareLayer names the layer that an environment of a worker's is, in which the system wants these variables as well: ""
// where WithEnv adds some.
func bareLayer(env []string, system ...string) string {
	if has(env, timeZone) && len(env) == 1 {
		env, system = nil, append(system, timeZone)
	}
	switch {
	case len(env) > 0:
		return ""
	case len(system) > 0:
		return "empty environment but " + strings.Join(system, " and ")
	default:
		return "empty environment"
	}
}
