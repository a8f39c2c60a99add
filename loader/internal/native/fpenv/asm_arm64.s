#include "go_asm.h"
#include "textflag.h"

// func get(c *Control)
TEXT ·get(SB), NOSPLIT, $0-8
	MOVD c+0(FP), R0
	MOVD FPCR, R1
	MOVD R1, Control_fpcr(R0)
	RET

// func set(c *Control)
TEXT ·set(SB), NOSPLIT, $0-8
	MOVD c+0(FP), R0
	MOVD Control_fpcr(R0), R1
	MOVD R1, FPCR
	RET
