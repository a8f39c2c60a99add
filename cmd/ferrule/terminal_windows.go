package main

import "golang.org/x/sys/windows"

// isTerminal reports whether the handle is a console: only those have a mode.
func isTerminal(fd uintptr) bool {
	var mode uint32
	return windows.GetConsoleMode(windows.Handle(fd), &mode) == nil
}

// escapes has the console understand escape sequences in what is written to it, and reports whether it does. Consoles
// before Windows 10 do not.
func escapes(fd uintptr) bool {
	const understand = windows.ENABLE_PROCESSED_OUTPUT | windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING
	var mode uint32
	console := windows.Handle(fd)
	return windows.GetConsoleMode(console, &mode) == nil &&
		(mode&understand == understand || windows.SetConsoleMode(console, mode|understand) == nil)
}
