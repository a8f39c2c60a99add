package host

import (
	"strings"

	"github.com/ferrule-dev/ferrule/loader/internal/process"
)

// bareLayer names the layer that an environment of a worker's is: "" where WithEnv adds some. The system may want variables in it,
// too.
func bareLayer(env []string) string {
	system := process.Variables
	if len(env) == 1 && strings.HasPrefix(env[0], process.TimeZone+"=") {
		env, system = nil, append(system[:len(system):len(system)], process.TimeZone)
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
