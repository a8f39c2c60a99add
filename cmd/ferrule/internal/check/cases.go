package check

// caseStreams is the case for which the parent looks at what was written to the standard output.
const caseStreams = "standard-streams"

// caseOpen is the first case that loads the library.
const caseOpen = "open"

// CaseSandbox is the case that runs only with Options.Sandbox.
const CaseSandbox = "sandbox"

var cases []Case

// The order is that in which they run, in each level what explains other findings first: a function that breaks the
// process, or that a case calls broken, is left out of the cases after it.
func init() {
	cases = []Case{
		{"manifest", 1, []string{"R1", "R3", "R13", "R24", "R29", "R32"},
			"The manifest and the meta texts are there, terminated, UTF-8 and valid.", checkManifest, nil},
		{"names", 1, []string{"R2", "R23"}, "Names of functions, hooks and imports are valid and unique, and none is reserved.",
			checkNames, nil},
		{"words", 1, []string{"R32"}, "Values of the contract's keys are such as they can have.", checkWords, nil},
		{"architecture", 1, []string{"R4"}, "The library is for this system.", checkArchitecture, nil},
		{"stack", 1, []string{"R20"}, "It asks for no executable stack.", checkStack, nil},
		{"symbols", 1, []string{"R2"}, "What the contract needs is exported, and nothing but the contract's names.",
			checkSymbols, nil},
		{caseOpen, 1, []string{"R2", "R4", "R5"}, "It opens with all its symbols bound and none of them shared.", nil,
			checkOpen},
		{"start", 1, []string{"R15"}, "An instance starts and stops.", nil, checkStart},
		{CaseSandbox, 1, []string{"R20"}, "With --sandbox: every function gives in that sandbox what it gives without.", nil,
			checkSandbox},

		{"input-empty", 2, []string{"R7", "R12"}, "Every function takes no input at all.", nil, checkInputEmpty},
		{"input-byte", 2, []string{"R7", "R12"}, "Every function takes one byte, of several values.", nil, checkInputByte},
		{"input-text", 2, []string{"R7", "R12"}, "Every function takes ordinary texts, and the inputs of --in.", nil,
			checkInputText},
		{"output", 2, []string{"R8"}, "The members out, out_len and release say where the result is, in rooms of several sizes.", nil, checkOutput},

		{"input-not-utf8", 3, []string{"R7", "R12"}, "Every function takes bytes that are not UTF-8.", nil,
			checkInputNotUTF8},
		{"input-random", 3, []string{"R7", "R12"}, "Every function takes random bytes.", nil, checkInputRandom},
		{"input-large", 3, []string{"R7", "R12"}, "Every function takes 1 MiB.", nil, checkInputLarge},
		{"input-read-only", 3, []string{"R7"}, "No function writes to its input.", nil, checkInputReadOnly},
		{"input-guard", 3, []string{"R7"}, "No function reads behind its input, where memory may end.", nil, checkInputGuard},
		{"status", 3, []string{"R10"}, "Every status is one of the contract's, or 1000 or more.", nil, checkStatus},
		{"message", 3, []string{"R11"}, "Messages of failures are UTF-8 without a newline at the end.", nil, checkMessage},

		{"room-guard", 4, []string{"R8"}, "No function writes behind its room, where memory may end.", nil, checkRoomGuard},
		{"room-sizes", 4, []string{"R8"}, "The result is the same for rooms of 0, 1, its own size, one less, and 1 MiB.",
			nil, checkRoomSizes},
		{"room", 4, []string{"R25"}, "More room may be refused, and the old one is not used once there is more.", nil, checkRoom},
		{"frame", 4, []string{"R6"}, "Functions leave the host's members of the frame as they are.", nil, checkFrame},
		{"release", 4, []string{"R9"}, "Memory is released once, from another thread, without the host's services.", nil,
			checkRelease},
		{"services", 4, []string{"R5", "R18", "R21", "R24", "R25", "R26", "R27", "R31", "R33"}, "Host services are used with what they take.", nil, checkServices},

		{"frame-size", 5, []string{"R21"}, "A frame that is longer than known is fine, and nothing behind its size is read or written.", nil, checkFrameSize},
		{"host-size", 5, []string{"R21"}, "So is a table of host services.", nil, checkHostSize},
		{"wants", 5, []string{"R23", "R5"}, "Wants may be offered, or not, or the host is older than wants.", nil, checkWants},
		{"streams", 5, []string{"R24"}, "Streams come in pieces of all sizes, break off, have no taker, are cancelled, or are not there.",
			nil, checkFlow},
		{"info", 5, []string{"R26"}, "What the host knows may be unknown, empty or long.", nil, checkInfo},
		{"next", 5, []string{"R33"}, "Behind a wrapper stands nothing, or what passes, fails, or returns 1 MiB.", nil, checkNext},
		{"progress", 5, []string{"R30"}, "Nobody may look at the progress.", nil, checkProgress},
		{"import-fails", 5, []string{"R18"}, "Host functions that fail, with a message and without.", nil, checkImportFails},
		{"import-empty", 5, []string{"R18"}, "Host functions that return nothing.", nil, checkImportEmpty},
		{"import-large", 5, []string{"R18"}, "Host functions that return 1 MiB, which FERRULE_MORE announces.", nil,
			checkImportLarge},

		{"cancel-set", 6, []string{"R17"}, "A function whose cancel word is set on entry returns soon.", nil, checkCancelSet},
		{"cancel-middle", 6, []string{"R17"}, "A function whose cancel word is set in the middle returns soon.", nil,
			checkCancelMiddle},
		{"batch", 6, []string{"R19"}, "ferrule_batch gives what single calls give, and stops when it is cancelled.", nil,
			checkBatch},
		{"quick", 6, []string{"R34"}, "What says quick=yes returns soon, and does without cancellation and host services.", nil,
			checkQuick},
		{"instances", 6, []string{"R13", "R15"}, "What one instance does shows in no other.", nil, checkInstances},
		{"handles", 6, []string{"R13", "R15"}, "What one instance has given is of no use to another one, and of no harm.", nil, checkHandles},
		{"config", 6, []string{"R8", "R15"}, "ferrule_start takes configurations of 1 MiB, of random bytes, on read-only memory.",
			nil, checkConfig},
		{"configure", 6, []string{"R28", "R8"}, "New settings may be refused, with nothing changed; the old ones are taken again.", nil,
			checkConfigure},
		{"handover", 6, []string{"R29", "R8"}, "What ferrule_save gives is what ferrule_resume takes; other bytes do no harm.", nil, checkHandover},

		{"signal-handlers", 7, []string{"R20"}, "Signal handlers are as they were.", nil, checkSignalHandlers},
		{"signal-mask", 7, []string{"R20"}, "The signal mask is as it was.", nil, checkSignalMask},
		{"children", 7, []string{"R20"}, "The host's own child processes are the host's to wait for.", nil, checkChildren},
		{"working-directory", 7, []string{"R20"}, "The working directory is as it was.", nil, checkWorkingDirectory},
		{"locale", 7, []string{"R20"}, "The locale is as it was.", nil, checkLocale},
		{"floating-point", 7, []string{"R20"}, "Rounding and the other floating-point modes are as they were.", nil,
			checkFloatingPoint},
		{"umask", 7, []string{"R20"}, "The umask is as it was.", nil, checkUmask},
		{"limits", 7, []string{"R20"}, "The resource limits are as they were.", nil, checkLimits},
		{"environment", 7, []string{"R20"}, "The environment is as it was.", nil, checkEnvironment},
		{caseStreams, 7, []string{"R20"}, "The standard streams are as they were, and nothing is written to the output, nor to the error output.",
			nil, checkStreams},

		{"threads", 8, []string{"R13"}, "The declared threads, all at the same time, get what one thread gets.", nil,
			checkThreads},
		{"late-frames", 8, []string{"R14"}, "The plug-in's own threads stop using a frame when its call ends.", nil,
			checkLateFrames},
		{"between", 8, []string{"R27"}, "What happens between calls ends with the instance, and a host may not have it.", nil, checkBetween},
		{"release-late", 8, []string{"R9"}, "Memory is released after the instance has stopped.", nil, checkReleaseLate},
		{"threads-end", 8, []string{"R15"}, "Threads end with the instance that started them.", nil, checkThreadsEnd},
		{"unload", 8, []string{"R20", "R15"}, "It registers nothing with atexit, and can be unloaded when no instance is left; a process that has had it ends well.",
			nil, checkUnload},

		{"start-stop", 9, []string{"R15"}, "1,000 instances, one after the other, leave no memory behind.", nil,
			checkStartStop},
		{"leaks", 9, []string{"R8", "R9"}, "Thousands of calls leave no memory behind.", nil, checkLeaks},

		{"random-many", 10, []string{"R7", "R8", "R12"},
			"500 random inputs of all lengths, between pages that cannot be touched.", nil, checkRandomMany},
	}
}
