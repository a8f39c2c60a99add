package serve

import "os"

// descriptor returns one that this process was started with.
func descriptor(n int) *os.File { return os.NewFile(uintptr(n), "the wire") }

// standardOutput is it as it is: C libraries have their own handle of it.
func standardOutput() *os.File { return os.Stdout }
