#include "textflag.h"

// func near(read *Message, readToo *byte, write *Message, writeToo *byte)
TEXT ·near(SB), NOSPLIT, $0-32
	MOVQ read+0(FP), AX
	MOVQ readToo+8(FP), BX
	MOVQ write+16(FP), CX
	MOVQ writeToo+24(FP), DX
	PREFETCHT0 (AX)
	PREFETCHT0 (BX)
	BYTE $0x0f; BYTE $0x0d; BYTE $0x09 // PREFETCHW (CX)
	BYTE $0x0f; BYTE $0x0d; BYTE $0x0a // PREFETCHW (DX)
	RET
