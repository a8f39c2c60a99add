package monitor

import "golang.org/x/sys/windows"

// refusedHere is what this system says where nobody listens.
var refusedHere error = windows.WSAECONNREFUSED
