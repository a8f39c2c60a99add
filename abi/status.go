package abi

import "strconv"

// Status is what a plug-in's function, or a host service, returns (rule R10). The set is open: a plug-in may return
// numbers of its own from StatusOwn on, and later versions of the contract may add some below it.
//
// A Status is an error, so that errors.Is(err, abi.StatusInvalid) finds it in what a call returned, and so that a host
// function chooses the status its caller gets by returning or wrapping one.
type Status int32

// The statuses of the contract.
const (
	StatusOK          Status = 0 // the output is the result; never an error
	StatusFailed      Status = 1 // it did not work; the message says why
	StatusInvalid     Status = 2 // the input is not what the function takes
	StatusUnsupported Status = 3 // understood, but not to be had here
	StatusCancelled   Status = 4 // the host no longer wants the result
	StatusPanic       Status = 5 // the code failed with its state unknown; the instance is poisoned (R16)
	StatusNoMemory    Status = 6 // memory or room was not enough
	StatusMisuse      Status = 7 // the caller broke a rule of the contract
	StatusMore        Status = 8 // host services only: the result needs more room than there was
	StatusPass        Status = 9 // nothing to say to this input (R22)

	StatusOwn Status = 1000 // the first that is a plug-in's own
)

var statusNames = [...]string{
	StatusOK: "ok", StatusFailed: "failed", StatusInvalid: "invalid input", StatusUnsupported: "unsupported",
	StatusCancelled: "cancelled", StatusPanic: "panic", StatusNoMemory: "out of memory", StatusMisuse: "misuse",
	StatusMore: "more room needed", StatusPass: "pass",
}

// Reserved reports whether the number is kept for later versions of the contract: to this one it reads as StatusFailed
// (rule R10).
func (s Status) Reserved() bool { return s > StatusPass && s < StatusOwn }

// String returns the status in words, or its number where the contract has no word for it.
func (s Status) String() string {
	if s >= 0 && int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "status " + strconv.Itoa(int(s))
}

// Error returns String; see Status for why a status is an error.
func (s Status) Error() string { return s.String() }
