//go:build !race

package forms

const raced = false
