// Package soak_nobody is the plug-in of the long run (internal/soak) in Go. What it answers says which version it is, and with which settings.
//
// The run makes plug-ins of other names and versions of what is built of it, by changing bytes: soak_nobody and 1.0.100000.
//
//ferrule:plugin name=soak_nobody version=1.0.100000 threads=concurrent
package soak_nobody

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

//go:generate ferrule gen

// name and version are variables, so that no compiler takes the texts apart.
var name, version = "soak_nobody", "1.0.100000"

// Settings is the configuration.
type Settings struct {
	N uint32 `json:"n"`
}

// State is what an instance has.
type State struct{ n atomic.Uint32 }

// New makes the state.
//
//ferrule:start
func New(c Settings) *State {
	s := &State{}
	s.n.Store(c.N)
	return s
}

// Configure changes the settings.
//
//ferrule:configure
func (s *State) Configure(c Settings) error {
	s.n.Store(c.N)
	return nil
}

// points is what the host says of a text.
//
//ferrule:import
var points func(ctx context.Context, text string) (string, error)

// hash is FNV-1a.
func hash(text string) uint32 {
	h := uint32(2166136261)
	for i := range len(text) {
		h = (h ^ uint32(text[i])) * 16777619
	}
	return h
}

// Work says which version it is, and with which settings, and has counted on the text.
//
//ferrule:export
func (s *State) Work(text string) string {
	n := s.n.Load()
	return fmt.Sprintf("%s %d %08x", version, n, hash(text)^n)
}

// Each is the same at a point.
//
//ferrule:hook each
func (s *State) Each(text string) string { return s.Work(text) }

// Chain puts what it is behind the text.
//
//ferrule:hook chain
func (s *State) Chain(text string) string {
	return fmt.Sprintf("%s;%s %s %d", text, name, version, s.n.Load())
}

// Asks says what the host says.
//
//ferrule:export
func (s *State) Asks(ctx context.Context, text string) (string, error) { return points(ctx, text) }

// Harm goes wrong as the text says.
//
//ferrule:export
func (s *State) Harm(text string) error {
	switch text {
	case "crash":
		os.Exit(3)
	case "panic":
		panic("as it was told")
	case "loop":
		for i := 0; ; i++ {
			if i < 0 {
				break
			}
		}
	}
	return errors.New("as it was told")
}
