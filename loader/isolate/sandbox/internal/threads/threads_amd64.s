//go:build linux

#include "textflag.h"

// The signal handler. The kernel calls it as a C function, on a thread of which it knows nothing: it touches no
// register that Go cares for (all come back from the signal frame anyway), no stack and no Go memory but the package's.
TEXT handler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVQ ·call+0(SB), AX
	MOVQ ·call+8(SB), DI
	MOVQ ·call+16(SB), SI
	MOVQ ·call+24(SB), DX
	MOVQ ·call+32(SB), R10
	MOVQ ·call+40(SB), R8
	XORQ R9, R9
	SYSCALL
	CMPQ AX, $-4095
	JCS  ok
	NEGQ AX
	MOVL AX, ·failed(SB)

ok:
	MOVL $1, AX
	LOCK
	XADDL AX, ·done(SB)
	RET

// Where the handler returns to: rt_sigreturn.
TEXT restorer<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ $15, AX
	SYSCALL
	INT  $3

// func addresses() (handler, restorer uintptr)
TEXT ·addresses(SB), NOSPLIT, $0-16
	LEAQ handler<>(SB), AX
	MOVQ AX, handler+0(FP)
	LEAQ restorer<>(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
