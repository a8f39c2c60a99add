//go:build amd64 || arm64

package fpenv

// get and set are assembly: no Go code reads these registers. Sound because they write what is behind c and the control
// registers, which belong to the thread and which no compiled code keeps elsewhere, and nothing else.

//go:noescape
func get(c *Control)

//go:noescape
func set(c *Control)
