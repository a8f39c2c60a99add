//go:build !unix

package lock_test

func become(int) error { return nil }
