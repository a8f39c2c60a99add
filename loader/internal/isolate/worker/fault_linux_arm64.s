#include "textflag.h"

// faultHandler(R0: the signal, R1: siginfo_t *, R2: ucontext_t *) is what the kernel calls on a fault, on the thread's own
// alternate stack. It uses no stack, takes no lock, and calls nothing but the kernel.
TEXT ·faultHandler(SB), NOSPLIT|NOFRAME, $0
	MOVD R0, R9             // what a system call keeps
	MOVD R1, R10
	MOVD R2, R11
	MOVD $172, R8           // getpid
	SVC
	MOVD R0, R12
	MOVD ·faultRecord(SB), R13
	CBZ  R13, raise
	MOVW ·faultProcess(SB), R14
	CMPW R14, R12
	BNE  raise              // a process that the plug-in has forked
	MOVW 8(R10), R14        // si_code
	CMPW $0, R14
	BLE  raise              // somebody has sent the signal
claim:
	LDAXRW (R13), R14
	CBNZ R14, raise         // the first fault counts
	MOVD $1, R14
	STLXRW R14, (R13), R15
	CBNZ R15, claim
	MOVW R9, 8(R13)
	MOVD 16(R10), R14       // si_addr
	MOVD R14, 16(R13)
	MOVD 440(R11), R14      // pc
	MOVD R14, 24(R13)
	MOVD 432(R11), R14      // sp
	MOVD R14, 32(R13)
	MOVD 40(R13), R14
	CBNZ R14, whole         // it is known
	MOVD ·faultNext(SB), R14
	CBZ  R14, whole
	MOVD 0(R14), R14        // its link: a constructor runs
	CBZ  R14, whole
	MOVD 0(R14), R14
	MOVD R14, 40(R13)
whole:
	MOVD $2, R14
	STLRW R14, (R13)        // it is whole
raise:
	// The default again, also where a handler of the plug-in's has called this one, and the signal once more: it is pending
	// until this handler returns.
	MOVD R9, R0
	MOVD $·faultDefault(SB), R1
	MOVD $0, R2
	MOVD $8, R3
	MOVD $134, R8           // rt_sigaction
	SVC
	MOVD $178, R8           // gettid
	SVC
	MOVD R0, R1
	MOVD R12, R0
	MOVD R9, R2
	MOVD $131, R8           // tgkill
	SVC
	RET

// func faultAddresses() (handler, restorer uintptr)
TEXT ·faultAddresses(SB), NOSPLIT, $0-16
	MOVD $·faultHandler(SB), R0
	MOVD R0, handler+0(FP)
	MOVD ZR, restorer+8(FP) // the kernel has its own
	RET
