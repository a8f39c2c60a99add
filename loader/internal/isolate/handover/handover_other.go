//go:build !linux

// Package handover hands the files of libraries from a host to a worker that runs already, by their descriptors. On systems whose
// loaders load by path there is nothing to hand over.
package handover

import "os"

// FilesOfWorker is how many files a worker inherits for it.
const FilesOfWorker = 0

// Giver is the host's end.
type Giver struct{}

// New makes it.
func New() (*Giver, error) { return new(Giver), nil }

// Files returns what the worker is to inherit.
func (*Giver) Files() []*os.File { return nil }

// Started closes what only the worker is to have open.
func (*Giver) Started() {}

// Give sends a file.
func (*Giver) Give(uint16, *os.File, <-chan struct{}) error { return nil }

// Close frees it.
func (*Giver) Close() {}

// Taker is the worker's end.
type Taker struct{}

// NewTaker takes what Files returned, inherited.
func NewTaker([]*os.File) *Taker { return new(Taker) }

// Take returns no file.
func (*Taker) Take(uint16) (*os.File, error) { return nil, nil }
