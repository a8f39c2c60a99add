//go:build !js

package lastwords

import (
	"os"
	"syscall"
)

// aborted is the signal of abort.
var aborted os.Signal = syscall.SIGABRT
