//go:build !race

package from_test

const racing = false
