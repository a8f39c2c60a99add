#include "go_asm.h"
#include "textflag.h"

// func get(c *Control)
TEXT ·get(SB), NOSPLIT, $0-8
	MOVQ    c+0(FP), AX
	STMXCSR Control_mxcsr(AX)
	FSTCW   Control_x87(AX)
	RET

// func set(c *Control)
TEXT ·set(SB), NOSPLIT, $0-8
	MOVQ    c+0(FP), AX
	LDMXCSR Control_mxcsr(AX)
	FLDCW   Control_x87(AX)
	RET
