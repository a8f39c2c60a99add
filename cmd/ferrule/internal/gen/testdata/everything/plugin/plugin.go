// Package plugin has the name of a package that what is written imports.
package plugin

// Value is a value.
type Value struct{ A int }
