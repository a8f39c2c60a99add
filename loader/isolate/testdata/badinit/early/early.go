// Package early does in its init function what FERRULE_TEST_INIT says.
package early

import "os"

func init() {
	switch os.Getenv("FERRULE_TEST_INIT") {
	case "panic":
		panic("no configuration file")
	case "exit":
		os.Exit(3)
	}
}
