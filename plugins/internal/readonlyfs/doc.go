// Package readonlyfs tells an error of a file system that may only be read from others.
package readonlyfs
