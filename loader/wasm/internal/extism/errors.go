package extism

import (
	"errors"
	"fmt"

	"github.com/ferrule-dev/ferrule/abi"
)

// ErrEnded says that an instance was called that has ended.
var ErrEnded = errors.New("the instance has ended: found a call of it, expected one of a new instance")

// Failed is the plug-in's own error: it returned a code that is not 0, or set an error.
type Failed struct {
	Code    int32
	Message string // may be empty where Code is not 0
}

// Error gives the message and the code.
func (e *Failed) Error() string {
	switch {
	case e.Message == "":
		return fmt.Sprintf("the plug-in returned %d", e.Code)
	case e.Code == 0:
		return e.Message
	}
	return fmt.Sprintf("%s (the plug-in returned %d)", e.Message, e.Code)
}

// Exited says that the plug-in ended itself.
type Exited struct{ Code uint32 }

// Error gives the exit code.
func (e *Exited) Error() string {
	return fmt.Sprintf("the module exited with the code %d", int32(e.Code))
}

// ImportError says that a plug-in imports what is not offered.
type ImportError struct {
	Module, Name    string
	Found, Expected string
}

// Error says what was found.
func (e *ImportError) Error() string {
	return fmt.Sprintf("import %s of %s: found %s, expected %s", e.Name, e.Module, e.Found, e.Expected)
}

// SignatureError says that a function of the plug-in cannot be called.
type SignatureError struct{ Function, Expected string }

// Error names the function.
func (e *SignatureError) Error() string {
	return fmt.Sprintf("function %s: found other parameters or results than %s", e.Function, e.Expected)
}

// BlockError says that a plug-in named bytes that are not in memory.
type BlockError struct {
	Offset, Length uint64
	Memory         uint32 // how long the memory is
}

// Error says where they would be.
func (e *BlockError) Error() string {
	return fmt.Sprintf("memory block: found %d bytes at %d, expected them in a memory of %d", e.Length, e.Offset, e.Memory)
}

// MemoryError says that the memory limit left no room for a block.
type MemoryError struct{ Length int }

// Error says how much was needed.
func (e *MemoryError) Error() string {
	return fmt.Sprintf("memory block: found no room for %d bytes within the memory limit", e.Length)
}

// VarError says that a variable was not set.
type VarError struct {
	Name string
	Max  int64 // less than 0 where none may be set
}

// Error gives the limit.
func (e *VarError) Error() string {
	if e.Max < 0 {
		return fmt.Sprintf("variable %q: vars are disabled by this host", e.Name)
	}
	return fmt.Sprintf("variable %q: the variable store is full, with a limit of %d bytes", e.Name, e.Max)
}

// HTTPError says that a request was not made, or failed.
type HTTPError struct {
	URL string
	Err error // nil where its host is not allowed
}

// Error says which request.
func (e *HTTPError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("HTTP request to '%s' is not allowed", e.URL)
	}
	return fmt.Sprintf("HTTP request to '%s': %v", e.URL, e.Err)
}

// Unwrap returns why it failed.
func (e *HTTPError) Unwrap() error { return e.Err }

// PatternError says that a pattern of HTTP.Hosts is none.
type PatternError struct{ Pattern string }

// Error gives the pattern.
func (e *PatternError) Error() string {
	return fmt.Sprintf("HTTP host: found the pattern %q, expected one as path.Match takes it", e.Pattern)
}

// HostError says that a host function failed, and so ended the call.
type HostError struct {
	Function string
	Status   abi.Status
	Message  string
}

// Error names the function.
func (e *HostError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("host function %s: %v", e.Function, e.Status)
	}
	return fmt.Sprintf("host function %s: %v: %s", e.Function, e.Status, e.Message)
}

// Unwrap returns the status.
func (e *HostError) Unwrap() error { return e.Status }
