//go:build !race

package scripttest

const raced = false
