#include "textflag.h"

// func near(read *Message, readToo *byte, write *Message, writeToo *byte)
TEXT ·near(SB), NOSPLIT, $0-32
	MOVD read+0(FP), R0
	MOVD readToo+8(FP), R1
	MOVD write+16(FP), R2
	MOVD writeToo+24(FP), R3
	PRFM (R0), PLDL1KEEP
	PRFM (R1), PLDL1KEEP
	PRFM (R2), PSTL1KEEP
	PRFM (R3), PSTL1KEEP
	RET
