//go:build unix

package script

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// nonblock has the opening of a FIFO not wait for who writes to it.
const nonblock = syscall.O_NONBLOCK

// whole has a command ended with all that it has started when its context ends, so that nobody waits for what holds its output.
func whole(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
}

// ownFolder is what is wrong with a folder whose libraries run in this user's name: others can put some there.
func ownFolder(folder string, info fs.FileInfo) error {
	if of, ok := info.Sys().(*syscall.Stat_t); ok && int(of.Uid) != os.Geteuid() {
		return fmt.Errorf("found the folder %s, which is the user's with the number %d, expected one that is this user's. Name another one", folder, of.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("found the folder %s, which others can write to, expected one that is this user's alone. Take that from them (chmod go-w)", folder)
	}
	return nil
}
