package crossing

import "golang.org/x/sys/windows"

// function finds GetCurrentThreadId, which is some three instructions and enters no kernel.
func function() (uintptr, error) {
	proc := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetCurrentThreadId")
	if err := proc.Find(); err != nil {
		return 0, err
	}
	return proc.Addr(), nil
}
