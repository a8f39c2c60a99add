//go:build !ferrule_portable && !race && !msan && !asan && !go1.28

#include "go_asm.h"
#include "textflag.h"

// func enterQuick(fn, arg uintptr) (status int32, refused uint32)
//
// What runtime.asmcgocall does, which the runtime itself uses without leaving the processor, for setenv and the like. It
// has no frame, so that the word at SP is the return address, as if the caller had called quickFunction: that is what the
// trace of a crash follows. What has to outlive the call is in registers that C preserves. The assembler marks a function
// that writes SP; no unwinder goes on from within one.
TEXT ·enterQuick(SB), NOSPLIT|NOFRAME, $0-24
	MOVQ fn+0(FP), AX
	MOVQ arg+8(FP), DI
	MOVQ TLS, R13
	MOVQ 0(R13)(TLS*1), R12               // the goroutine's g
	LEAQ ·quickFunction+4(SB), DX         // the mark
	MOVQ SP, BX
	MOVQ DX, const_gPC(R12)
	MOVQ SP, const_gSP(R12)
	MOVQ BP, const_gBP(R12)
	MOVQ const_gM(R12), R8
	MOVQ const_mG0(R8), R15               // the thread's g0
	MOVQ DX, const_GMark(R15)
	MOVQ R15, 0(R13)(TLS*1)               // from here on signal handlers see g0: a fault is fatal, and nothing preempts
	MOVQ const_gSP(R15), SP
	ANDQ $~15, SP
	CALL AX
	MOVQ const_GMark(R15), CX
	MOVQ $0, const_GMark(R15)
	MOVQ R12, 0(R13)(TLS*1)
	MOVQ BX, SP
	ANDL $1, CX
	MOVL AX, status+16(FP)
	MOVL CX, refused+20(FP)
	RET

// func quickFunction()
TEXT ·quickFunction(SB), NOSPLIT|NOFRAME, $0-0
	BYTE $0x90; BYTE $0x90; BYTE $0x90; BYTE $0x90
	BYTE $0x90; BYTE $0x90; BYTE $0x90; BYTE $0x90
	RET

// func markAddr() uintptr
TEXT ·markAddr(SB), NOSPLIT, $0-8
	LEAQ ·quickFunction+4(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func currentG() uintptr
TEXT ·currentG(SB), NOSPLIT, $0-8
	MOVQ TLS, CX
	MOVQ 0(CX)(TLS*1), AX
	MOVQ AX, ret+0(FP)
	RET

// witness is int32_t witness(testimony *).
TEXT ·witness<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ TLS, AX
	MOVQ 0(AX)(TLS*1), AX
	MOVQ AX, testimony_g(DI)
	MOVQ SP, testimony_sp(DI)
	MOVQ const_GMark(AX), AX
	MOVQ AX, testimony_mark(DI)
	MOVQ testimony_goroutine(DI), R8
	MOVQ const_gSP(R8), AX
	MOVQ AX, testimony_gSP(DI)
	MOVQ const_gPC(R8), AX
	MOVQ AX, testimony_gPC(DI)
	MOVQ const_gBP(R8), AX
	MOVQ AX, testimony_gBP(DI)
	MOVL $const_witnessed, AX
	RET

// func witnessAddr() uintptr
TEXT ·witnessAddr(SB), NOSPLIT, $0-8
	LEAQ ·witness<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
