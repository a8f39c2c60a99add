package worker

// A program that can be a worker carries markers in its file, by which a host knows before it starts one: any other program
// would run its own main function in the worker's place, without any sandbox. Packages isolate and sandbox put them there.
//
// A marker is MarkerBegin, what the program can be, a slash, the version of the protocol, and MarkerEnd. Only whole ones
// count: a host carries MarkerBegin as well, which it searches for.
const (
	MarkerBegin = "github.com/ferrule-dev/ferrule: this program can be a worker: "
	MarkerEnd   = "/ferrule\n"

	MarkerPlain   = MarkerBegin + plain + "/" + version + MarkerEnd
	MarkerSandbox = MarkerBegin + sandboxed + "/" + version + MarkerEnd

	// MarkerMost is as long as a marker may be, in bytes.
	MarkerMost = len(MarkerBegin) + 32 + len(MarkerEnd)

	plain, sandboxed = "plain", "sandbox"
)

// Version is that of the protocol between hosts and workers, as markers have it.
const Version = version

var marks []string

// Mark keeps a marker in the program's file. It is called by an init function, so that the linker does not drop it.
func Mark(marker string) { marks = append(marks, marker) }
