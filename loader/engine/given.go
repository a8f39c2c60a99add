package engine

import (
	"fmt"

	"github.com/ferrule-dev/ferrule/loader/inspect"
)

// Given knows which options the maker of an engine has got: each is given once. It is for packages whose options are functions named With…, whose
// engine's Fault is what Take returns. One goroutine uses it at a time, and nobody when the engine is made.
type Given struct {
	By string // the package's name, as errors have it

	names map[string]bool
}

// Faulty returns the error of an option, an *inspect.Error of the kind ErrOption.
func (g *Given) Faulty(option, found, expected string) error {
	return &inspect.Error{Kind: ErrOption, Found: g.By + "." + option + " with " + found, Expected: expected, Remedy: "Change that option"}
}

// Once takes in that an option is given. The error, as Faulty's, says that it was before.
func (g *Given) Once(name string) error {
	if g.names[name] {
		return &inspect.Error{Kind: ErrOption, Found: g.By + "." + name + " twice", Expected: "it once", Remedy: "Leave one of them out: none replaces another"}
	}
	if g.names == nil {
		g.names = make(map[string]bool)
	}
	g.names[name] = true
	return nil
}

// Take has options do what they do to to, in their order. The fault is the first of theirs, or nil; the others are taken all the same.
func Take[T any, O ~func(*T) error](g *Given, to *T, opts []O) (fault error) {
	for i, opt := range opts {
		err := error(nil)
		if opt == nil {
			err = g.Faulty("Engine", fmt.Sprintf("nil as option %d", i+1), "options that are made by functions named With…")
		} else {
			err = opt(to)
		}
		if err != nil && fault == nil {
			fault = err
		}
	}
	return fault
}
