package process

import (
	"os"
	"runtime"
	"strings"
)

// TimeZone is the one variable of this process's environment that programs get which are to have none of it: without it they tell another
// local time than this process does, and no error.
const TimeZone = "TZ"

// Environment returns the environment of a program that is to have nothing but its own, and TimeZone, where its own does not set
// it. What is own is not changed.
func Environment(own []string) []string {
	env := own[:len(own):len(own)]
	if zone, set := os.LookupEnv(TimeZone); set && !has(own, TimeZone) {
		env = append(env, TimeZone+"="+zone)
	}
	return env
}

// has reports whether an environment has a variable.
func has(env []string, name string) bool {
	for _, variable := range env {
		if key, _, _ := strings.Cut(variable, "="); key == name || runtime.GOOS == "windows" && strings.EqualFold(key, name) {
			return true
		}
	}
	return false
}
