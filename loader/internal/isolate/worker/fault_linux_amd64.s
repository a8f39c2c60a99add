#include "textflag.h"

// faultHandler(DI: the signal, SI: siginfo_t *, DX: ucontext_t *) is what the kernel calls on a fault, on the thread's own
// alternate stack. It uses no stack beyond its own pushes, takes no lock, and calls nothing but the kernel.
TEXT ·faultHandler(SB), NOSPLIT|NOFRAME, $0
	MOVQ DI, R12            // what a system call keeps
	MOVQ SI, R13
	MOVQ DX, R14
	MOVL $39, AX            // getpid
	SYSCALL
	MOVL AX, R15
	MOVQ ·faultRecord(SB), BX
	TESTQ BX, BX
	JZ   raise
	CMPL AX, ·faultProcess(SB)
	JNE  raise              // a process that the plug-in has forked
	MOVL 8(R13), AX         // si_code
	TESTL AX, AX
	JLE  raise              // somebody has sent the signal
	XORL AX, AX
	MOVL $1, CX
	LOCK
	CMPXCHGL CX, 0(BX)      // the first fault counts
	JNE  raise
	MOVL R12, 8(BX)
	MOVQ 16(R13), AX        // si_addr
	MOVQ AX, 16(BX)
	MOVQ 168(R14), AX       // rip
	MOVQ AX, 24(BX)
	MOVQ 160(R14), AX       // rsp
	MOVQ AX, 32(BX)
	CMPQ 40(BX), $0
	JNE  whole              // it is known
	MOVQ ·faultNext(SB), AX
	TESTQ AX, AX
	JZ   whole
	MOVQ 0(AX), AX          // its link: a constructor runs
	TESTQ AX, AX
	JZ   whole
	MOVQ 0(AX), AX
	MOVQ AX, 40(BX)
whole:
	MOVL $2, 0(BX)          // it is whole
raise:
	// The default again, also where a handler of the plug-in's has called this one, and the signal once more: it is pending
	// until this handler returns.
	MOVL $13, AX            // rt_sigaction
	MOVQ R12, DI
	LEAQ ·faultDefault(SB), SI
	XORL DX, DX
	MOVL $8, R10
	SYSCALL
	MOVL $186, AX           // gettid
	SYSCALL
	MOVL AX, SI
	MOVL R15, DI
	MOVQ R12, DX
	MOVL $234, AX           // tgkill
	SYSCALL
	RET

TEXT ·faultReturn(SB), NOSPLIT|NOFRAME, $0
	MOVL $15, AX            // rt_sigreturn
	SYSCALL
	INT  $3

// func faultAddresses() (handler, restorer uintptr)
TEXT ·faultAddresses(SB), NOSPLIT, $0-16
	LEAQ ·faultHandler(SB), AX
	MOVQ AX, handler+0(FP)
	LEAQ ·faultReturn(SB), AX
	MOVQ AX, restorer+8(FP)
	RET
