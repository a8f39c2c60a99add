package check

// firstCases are so many of sidecarCases that run in any case: what the sidecar is is not known before.
const firstCases = 2

var sidecarCases []sidecarCase

func init() {
	of := func(name string, level int, rules []string, does string, do, web func(*probe)) {
		sidecarCases = append(sidecarCases, sidecarCase{Case{Name: name, Level: level, Rules: rules, Does: does}, do, web})
	}
	of("hello", 1, []string{"W4", "W1", "W2", "W16", "W18"}, "It says hello, in the version of the page, and nothing before it.", (*probe).checkHello, (*probe).webHello)
	of("manifest", 1, []string{"W5", "W10", "W18"}, "The manifest is one, with the keys of the page.", (*probe).checkManifest, (*probe).checkManifest)
	of("words", 1, []string{"W5"}, "Values of the contract's keys are such as they can have.", (*probe).checkWords, (*probe).checkWords)
	of("start", 1, []string{"W10", "W6"}, "An instance starts with the configuration, and stops.", (*probe).checkStart, nil)

	of("call", 2, []string{"W7", "W8", "W12"}, "Every function and hook answers ordinary inputs, and those of --in.", (*probe).checkCall, (*probe).webCall)
	of("unknown", 2, []string{"W7", "W18"}, "Names that are not known are answered with status 3.", (*probe).checkUnknown, (*probe).webUnknown)

	of("hello-late", 3, []string{"W4", "W1"}, "The host's hello may come late, and byte by byte.", (*probe).checkLate, nil)
	of("hello-fields", 3, []string{"W1", "W4"}, "The host's hello may have fields that nobody knows.", (*probe).checkFields, nil)
	of("hello-version", 3, []string{"W4"}, "Another version in the host's hello ends the session.", (*probe).checkVersion, nil)
	of("token", 3, []string{"W4", "W18"}, "With --token: nothing is said to a host that does not know it.", (*probe).checkToken, (*probe).webToken)
	of("heads", 3, []string{"W1"}, "Lines end in LF or CR LF; names' case, spaces around values and unknown fields do not count.", (*probe).checkHeads, nil)
	of("pieces", 3, []string{"W1"}, "Messages come byte by byte, several at once, and cut in the middle.", (*probe).checkPieces, nil)
	of("bodies", 3, []string{"W1", "W2", "W18"}, "Bodies of 0 bytes to 8 MiB, of all bytes, and such as look like messages.", (*probe).checkBodies, (*probe).webBodies)
	of("inputs", 3, []string{"W7", "W8", "W12"}, "Every function takes bytes that are not UTF-8, and random ones.", (*probe).checkInputs, (*probe).webInputs)
	of("ids", 3, []string{"W7"}, "Ids are large, in any order, and used again.", (*probe).checkIDs, nil)

	of("many", 4, []string{"W7"}, "1,000 calls one after the other.", (*probe).checkMany, (*probe).webMany)
	of("concurrent", 4, []string{"W9", "W7", "W18"}, "Calls at the same time get what they get alone, in any order.", (*probe).checkConcurrent, (*probe).webConcurrent)
	of("timeout", 4, []string{"W7", "W18"}, "Calls may say how long the host waits.", (*probe).checkTimeout, (*probe).webTimeout)
	of("cancel", 4, []string{"W12", "W18"}, "Calls are cancelled at once, when they are over, and when they never were.", (*probe).checkCancel, (*probe).webCancel)
	of("cancel-running", 4, []string{"W12", "W18"}, "What runs until it is cancelled answers soon then.", (*probe).checkCancelRunning, (*probe).webCancelRunning)
	of("host-functions", 4, []string{"W11"}, "Host functions answer, fail, are not there, return nothing, and much.", (*probe).checkHostFunctions, nil)
	of("host-order", 4, []string{"W11"}, "Answers of the host come in another order than the calls.", (*probe).checkHostOrder, nil)
	of("wants", 4, []string{"W5", "W11"}, "No want is offered.", (*probe).checkSidecarWants, nil)
	of("info", 4, []string{"W11"}, "What the host knows may be unknown, empty, long, or no number.", (*probe).checkSidecarInfo, nil)

	of("config", 5, []string{"W10"}, "ferrule.start answers configurations of all kinds.", (*probe).checkSidecarConfig, nil)
	of("configure", 5, []string{"W10"}, "New settings may be refused, with nothing changed; the old ones are taken again.", (*probe).checkSidecarConfigure, nil)
	of("handover", 5, []string{"W10"}, "What ferrule.save gives is what ferrule.resume takes; other bytes are answered.", (*probe).checkSidecarHandover, nil)
	of("logs", 5, []string{"W13", "W4"}, "Log lines are well-formed, and of the levels that are wanted.", (*probe).checkLogs, nil)
	of("progress", 5, []string{"W14"}, "Progress is of a call, and no more than all.", (*probe).checkSidecarProgress, nil)
	of("streams", 5, []string{"W15"}, "Streams come in pieces of all sizes, end, break off, have no taker, and are cancelled; nobody sends more than was asked for.", (*probe).checkSidecarStreams, nil)
	of("max-body", 5, []string{"W2"}, "A host takes short bodies only.", (*probe).checkMaxBody, nil)

	of("bye", 6, []string{"W6"}, "It ends soon when it is told BYE, with exit code 0, and leaves nothing behind.", (*probe).checkBye, nil)
	of("end", 6, []string{"W6"}, "It ends soon when the stream ends: idle, before the hello, within a message, and while a call runs.", (*probe).checkEnd, nil)
	of("garbage", 6, []string{"W3"}, "What is not a message has it end the session by itself.", (*probe).checkGarbage, nil)
	of("ways", 6, []string{"W16"}, "It speaks by its standard streams where no descriptors are named.", (*probe).checkWays, nil)
	of("connections", 6, []string{"W17"}, "Each connection is a session of its own; FIFOs have one after the other.", (*probe).checkConnections, nil)

	of("memory", 9, []string{"W7"}, "Thousands of calls leave no memory behind.", (*probe).checkMemory, nil)
}
