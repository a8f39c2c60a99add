//go:build !ferrule_portable && (linux || darwin)

#include "go_asm.h"
#include "textflag.h"

// The services of struct ferrule_host: C functions, by the System V ABI, with at most six arguments, all of them
// integers or pointers. Each says which one it is in AX, which a C function may change, and goes on.

TEXT ·call<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceCall, AX
	JMP  ·guard<>(SB)

TEXT ·log<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceLog, AX
	JMP  ·guard<>(SB)

TEXT ·logFields<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceLogFields, AX
	JMP  ·guard<>(SB)

TEXT ·info<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceInfo, AX
	JMP  ·guard<>(SB)

TEXT ·room<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceRoom, AX
	JMP  ·guard<>(SB)

TEXT ·read<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceRead, AX
	JMP  ·guard<>(SB)

TEXT ·write<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceWrite, AX
	JMP  ·guard<>(SB)

TEXT ·next<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceNext, AX
	JMP  ·guard<>(SB)

TEXT ·background<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVL $const_serviceBackground, AX
	JMP  ·guard<>(SB)

// guard goes on unless the thread is in a quick call (rule R34): from there nothing leads into Go. What it used was
// refused then, and the crossing hears of it. The mark is in the thread's g0, which is the g here; a thread that never
// ran Go has none. mark is 0 until there may be quick calls, and the g is not looked at then. Only AX is taken on, and the
// arguments.
TEXT ·guard<>(SB), NOSPLIT|NOFRAME, $0-0
	LEAQ ·mark(SB), R10
	MOVQ (R10), R10
	TESTQ R10, R10
	JEQ  ordinary
	MOVQ TLS, R11
	MOVQ 0(R11)(TLS*1), R11
	TESTQ R11, R11
	JEQ  ordinary
	XORQ const_gMark(R11), R10
	CMPQ R10, $1                    // its lowest bit says that a service was refused before
	JHI  ordinary
	ORQ  $1, const_gMark(R11)
	MOVL $const_misuse, R10
	XORL R11, R11
	CMPQ AX, $const_serviceBackground
	MOVQ R10, AX
	CMOVQEQ R11, AX                 // which returns a pointer
	RET
ordinary:
	JMP ·enter<>(SB)

// enter makes an arrival of it on C's stack and calls
//
//	crosscall2(fn, a unsafe.Pointer, n int32, ctxt uintptr)
//
// which saves every register that C expects to be preserved, enters Go and calls fn(a).
//
// This function changes none of them itself: the assembler saves BP and makes it the frame's pointer, as C does, and
// LEAQ of a variable, unlike MOVQ from it, takes no R15 in a program that is linked dynamically with Go's own packages.
// Its frame, BP and the return address are 80 bytes, so the stack is aligned to 16 at the call, as C wants it.
TEXT ·enter<>(SB), NOSPLIT, $arrival__size-0
	MOVQ DI, (arrival_args+0)(SP)
	MOVQ SI, (arrival_args+8)(SP)
	MOVQ DX, (arrival_args+16)(SP)
	MOVQ CX, (arrival_args+24)(SP)
	MOVQ R8, (arrival_args+32)(SP)
	MOVQ R9, (arrival_args+40)(SP)
	MOVQ AX, arrival_service(SP)
	LEAQ ·arrive(SB), DI
	MOVQ (DI), DI
	MOVQ (DI), DI                   // fn
	MOVQ SP, SI                     // a
	XORL DX, DX                     // n, which nobody reads
	XORL CX, CX                     // ctxt: nobody has collected a traceback of C's frames
	CALL crosscall2(SB)
	MOVQ arrival_result(SP), AX
	RET

GLOBL ·entry(SB), NOPTR|RODATA, $(8*const_serviceCount)
DATA ·entry+(8*const_serviceCall)(SB)/8, $·call<>(SB)
DATA ·entry+(8*const_serviceLog)(SB)/8, $·log<>(SB)
DATA ·entry+(8*const_serviceLogFields)(SB)/8, $·logFields<>(SB)
DATA ·entry+(8*const_serviceInfo)(SB)/8, $·info<>(SB)
DATA ·entry+(8*const_serviceRoom)(SB)/8, $·room<>(SB)
DATA ·entry+(8*const_serviceRead)(SB)/8, $·read<>(SB)
DATA ·entry+(8*const_serviceWrite)(SB)/8, $·write<>(SB)
DATA ·entry+(8*const_serviceNext)(SB)/8, $·next<>(SB)
DATA ·entry+(8*const_serviceBackground)(SB)/8, $·background<>(SB)
