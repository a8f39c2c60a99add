#include "textflag.h"

// func fault()
//
// CX is the address of the structure EXCEPTION_POINTERS, whose first word is that of the EXCEPTION_RECORD: the code in 32
// bits, and the exception's address at 16. The stack has room for the callee's four arguments, and is aligned to 16.
TEXT ·fault(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ	0(CX), AX
	MOVL	0(AX), DX
	MOVQ	16(AX), R8
	MOVL	DX, AX
	SHRL	$30, AX
	CMPL	AX, $3 // the severity: an error
	JNE	pass
	CMPQ	R8, ·imageStart(SB)
	JCS	end
	CMPQ	R8, ·imageEnd(SB)
	JCS	pass
end:
	MOVQ	$-1, CX // this process
	MOVQ	·terminate(SB), AX
	SUBQ	$40, SP
	CALL	AX
	ADDQ	$40, SP
pass:
	XORL	AX, AX
	RET

// func addressOfFault() uintptr
TEXT ·addressOfFault(SB), NOSPLIT, $0-8
	LEAQ	·fault(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
