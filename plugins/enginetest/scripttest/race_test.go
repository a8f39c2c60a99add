//go:build race

package scripttest

const raced = true
