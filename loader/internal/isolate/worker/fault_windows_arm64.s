#include "textflag.h"

// func fault()
//
// R0 is the address of the structure EXCEPTION_POINTERS, whose first word is that of the EXCEPTION_RECORD: the code in 32
// bits, and the exception's address at 16. Illegal instructions are left to others: libraries try out by them what the
// processor can do.
TEXT ·fault(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	0(R0), R3
	MOVWU	0(R3), R1
	MOVD	16(R3), R2
	LSR	$30, R1, R3
	CMP	$3, R3 // the severity: an error
	BNE	pass
	MOVD	$0xc000001d, R3
	CMP	R3, R1
	BEQ	pass
	MOVD	·imageStart(SB), R3
	CMP	R3, R2
	BLO	end
	MOVD	·imageEnd(SB), R3
	CMP	R3, R2
	BLO	pass
end:
	MOVD	$-1, R0 // this process
	MOVD	·terminate(SB), R3
	JMP	(R3) // does not come back
pass:
	MOVD	ZR, R0
	RET

// func addressOfFault() uintptr
TEXT ·addressOfFault(SB), NOSPLIT, $0-8
	MOVD	$·fault(SB), R0
	MOVD	R0, ret+0(FP)
	RET
