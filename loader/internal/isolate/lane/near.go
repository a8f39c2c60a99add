//go:build amd64 || arm64

package lane

// near has the processor fetch four cache lines while it goes on: two that are read next, and two that are written after that, which are
// taken from the other side's processor at once. The other side has written or read each of them last, so whoever gets the turn would wait for
// one after the other, each time about as long as for the turn itself.
//
// Sound with any address: it is a hint, which changes no memory and faults nowhere. One that is not mapped costs a search in the page tables.
//
//go:noescape
func near(read *Message, readToo *byte, write *Message, writeToo *byte)
