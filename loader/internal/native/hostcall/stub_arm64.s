//go:build !ferrule_portable && (linux || darwin)

#include "go_asm.h"
#include "textflag.h"

// The services of struct ferrule_host: C functions, by the AAPCS64, with at most six arguments, all of them integers
// or pointers. Each says which one it is in R9, which a C function may change, and goes on.

TEXT ·call<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceCall, R9
	JMP  ·enter<>(SB)

TEXT ·log<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceLog, R9
	JMP  ·enter<>(SB)

TEXT ·logFields<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceLogFields, R9
	JMP  ·enter<>(SB)

TEXT ·info<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceInfo, R9
	JMP  ·enter<>(SB)

TEXT ·room<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceRoom, R9
	JMP  ·enter<>(SB)

TEXT ·read<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceRead, R9
	JMP  ·enter<>(SB)

TEXT ·write<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceWrite, R9
	JMP  ·enter<>(SB)

TEXT ·next<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceNext, R9
	JMP  ·enter<>(SB)

TEXT ·background<>(SB), NOSPLIT|NOFRAME, $0-0
	MOVD $const_serviceBackground, R9
	JMP  ·enter<>(SB)

// enter makes an arrival of it on C's stack and calls
//
//	crosscall2(fn, a unsafe.Pointer, n int32, ctxt uintptr)
//
// which saves every register that C expects to be preserved, but for the return address, enters Go and calls fn(a).
//
// The return address is saved here, and R27, which C expects to be preserved and which the assembler and the linker
// take for themselves: for addresses of variables, and for calls over a long way. R29 stays C's. The stack is always
// aligned to 16.
TEXT ·enter<>(SB), NOSPLIT|NOFRAME, $0-0
	SUB  $(arrival__size+16), RSP
	STP  (R27, R30), arrival__size(RSP)
	STP  (R0, R1), (arrival_args+0)(RSP)
	STP  (R2, R3), (arrival_args+16)(RSP)
	STP  (R4, R5), (arrival_args+32)(RSP)
	MOVD R9, arrival_service(RSP)
	MOVD $·arrive(SB), R0
	MOVD (R0), R0
	MOVD (R0), R0                         // fn
	MOVD RSP, R1                          // a
	MOVD ZR, R2                           // n, which nobody reads
	MOVD ZR, R3                           // ctxt: nobody has collected a traceback of C's frames
	CALL crosscall2(SB)
	MOVD arrival_result(RSP), R0
	LDP  arrival__size(RSP), (R27, R30)
	ADD  $(arrival__size+16), RSP
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
