//go:build !unix

package folder

const notBlocking = 0
