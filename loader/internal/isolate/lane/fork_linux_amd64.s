#include "go_asm.h"
#include "textflag.h"

// afterFork is what the C library calls in a child that a plug-in has forked, on the stack of the thread that did. It has each share be the child's
// own, takes no lock, and calls nothing but the kernel. Where that has no memory for one (vm.overcommit_memory=2), it stays shared from Linux 6.12 on; kernels before that
// have taken the shared one away by then, and the child is ended at its first access.
TEXT ·afterFork(SB), NOSPLIT|NOFRAME, $0
	PUSHQ BX
	PUSHQ R12
	LEAQ ·shares(SB), BX
	MOVQ $const_maxShares, R12
loop:
	MOVQ 0(BX), DI
	TESTQ DI, DI
	JZ   next
	MOVQ 8(BX), SI
	MOVL $3, DX             // PROT_READ|PROT_WRITE
	MOVL $0x12, R10         // MAP_PRIVATE|MAP_FIXED
	MOVQ 24(BX), R8
	MOVQ 16(BX), R9
	MOVL $9, AX             // mmap
	SYSCALL
next:
	ADDQ $32, BX
	DECQ R12
	JNZ  loop
	POPQ R12
	POPQ BX
	RET

// func afterForkAddress() uintptr
TEXT ·afterForkAddress(SB), NOSPLIT, $0-8
	LEAQ ·afterFork(SB), AX
	MOVQ AX, ret+0(FP)
	RET
