package engine

import "errors"

// ErrViews says that a call would wait for lanes that are all held by views, for its own perhaps.
var ErrViews = errors.New("as many views of the plug-in's results are held as there may be, and none is released")
