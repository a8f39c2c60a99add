//go:build !386 && !amd64

#include "mark.h"

// func OfWorker()
TEXT ·OfWorker(SB), NOSPLIT, $0-0
	WORDS(WORD, const_Worker)

// func OfSandbox()
TEXT ·OfSandbox(SB), NOSPLIT, $0-0
	WORDS(WORD, const_Sandboxed)
