//go:build ferrule_portable || race || msan || asan || !linux || !amd64 || go1.28

package cross

// QuickMark returns 0: the quick crossing has not been run on this platform, or with this release of Go. The detectors
// of races and of wrong memory accesses follow calls into C by runtime.cgocall, and would not see these.
func QuickMark() uintptr { return 0 }

func enterQuick(uintptr, uintptr) (status int32, refused uint32) {
	panic("cross: a quick crossing without a mark")
}
