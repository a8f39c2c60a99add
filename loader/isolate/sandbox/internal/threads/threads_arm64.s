//go:build linux

#include "textflag.h"

// The signal handler. The kernel calls it as a C function, on a thread of which it knows nothing: it touches no
// stack and no Go memory but the package's, and all registers come back from the signal frame.
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVD $·call(SB), R9
	MOVD 0(R9), R8
	MOVD 8(R9), R0
	MOVD 16(R9), R1
	MOVD 24(R9), R2
	MOVD 32(R9), R3
	MOVD 40(R9), R4
	MOVD $0, R5
	SVC
	CMN  $4095, R0
	BCC  ok
	NEG  R0, R0
	MOVD $·failed(SB), R9
	MOVW R0, (R9)

ok:
	MOVD $·done(SB), R9

again:
	LDAXRW (R9), R10
	ADDW   $1, R10
	STLXRW R10, (R9), R11
	CBNZW  R11, again
	RET

// func addresses() (handler, restorer uintptr)
// The kernel has a restorer of its own on this architecture.
TEXT ·addresses(SB), NOSPLIT, $0-16
	MOVD $handler<>(SB), R0
	MOVD R0, handler+0(FP)
	MOVD ZR, restorer+8(FP)
	RET
