#include "go_asm.h"
#include "textflag.h"

// afterFork is what the C library calls in a child that a plug-in has forked, on the stack of the thread that did. It has each share be the child's
// own, takes no lock, and calls nothing but the kernel, which keeps all registers but R0. Where that has no memory for one (vm.overcommit_memory=2), it stays shared from Linux 6.12 on;
// kernels before that have taken the shared one away by then, and the child is ended at its first access.
TEXT ·afterFork(SB), NOSPLIT|NOFRAME, $0
	MOVD $·shares(SB), R9
	MOVD $const_maxShares, R10
loop:
	MOVD 0(R9), R0
	CBZ  R0, next
	MOVD 8(R9), R1
	MOVD $3, R2             // PROT_READ|PROT_WRITE
	MOVD $0x12, R3          // MAP_PRIVATE|MAP_FIXED
	MOVD 24(R9), R4
	MOVD 16(R9), R5
	MOVD $222, R8           // mmap
	SVC
next:
	ADD  $32, R9
	SUB  $1, R10
	CBNZ R10, loop
	RET

// func afterForkAddress() uintptr
TEXT ·afterForkAddress(SB), NOSPLIT, $0-8
	MOVD $·afterFork(SB), R0
	MOVD R0, ret+0(FP)
	RET
