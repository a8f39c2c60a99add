//go:build unix && !linux && !darwin && !freebsd && !netbsd

package dl

const noLoad = 0 // there is none that is known
