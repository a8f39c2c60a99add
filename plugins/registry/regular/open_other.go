//go:build !unix

package regular

const nonblock = 0 // no file system has named pipes here
