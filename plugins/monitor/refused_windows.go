package monitor

import "golang.org/x/sys/windows"

// refusedHere is what this system says where nobody listens.
var refusedHere error = windows.WSAECONNREFUSED

// takenHere is what this system says where a socket cannot be made because something is at its path.
var takenHere error = windows.WSAEADDRINUSE
