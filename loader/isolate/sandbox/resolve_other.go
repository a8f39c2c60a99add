//go:build !linux

package sandbox

// resolve is the policy alone: this system has nothing by which its paths would be kept to.
func (p Policy) resolve() ([]byte, error) { return p.encode() }
