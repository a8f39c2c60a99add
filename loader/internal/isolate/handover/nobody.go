package handover

import "errors"

// ErrNobody says that the worker takes no file any more.
var ErrNobody = errors.New("nobody takes the library")
