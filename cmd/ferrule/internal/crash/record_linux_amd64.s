#include "textflag.h"

// handler(DI: the signal, SI: siginfo_t *, DX: ucontext_t *) is what the kernel calls on a fault, on the thread's own
// alternate stack, if it has one; or a handler of the library's that came later. It uses no stack, takes no lock, and calls nothing but the
// kernel. At the end it is as if the handler had been called that was there before. Where there was none, the system's own way is put in
// force, and the signal is sent once more: it is blocked until the handler returns.
//
// A caller's registers are kept in the end of siginfo_t, which no fault uses.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0
	MOVQ BX, 88(SI)
	MOVQ R12, 96(SI)
	MOVQ R13, 104(SI)
	MOVQ R14, 112(SI)
	MOVQ R15, 120(SI)
	MOVQ DI, R12            // what a system call keeps
	MOVQ SI, R13
	MOVQ DX, R14
	MOVL $39, AX            // getpid
	SYSCALL
	CMPL AX, ·process(SB)
	JNE  old                // a process that the library has forked
	MOVL 8(R13), AX         // si_code
	TESTL AX, AX
	JG   own
	CMPL R12, $6            // SIGABRT
	JNE  old                // somebody has sent the signal
	CMPL AX, $-6            // SI_TKILL: abort has
	JNE  old
own:
	MOVQ 168(R14), AX       // rip
	CMPQ AX, ·codeStart(SB)
	JB   foreign
	CMPQ AX, ·codeEnd(SB)
	JB   old                // Go's code
foreign:
	MOVL $186, AX           // gettid
	SYSCALL
	MOVL AX, R15
	XORL AX, AX
	LEAQ ·recorder(SB), BX
	LOCK
	CMPXCHGL R15, 0(BX)     // the first one counts
	JEQ  first
	CMPL AX, R15
	JEQ  old                // a fault in what came after it
wait:
	MOVL $34, AX            // pause, until the first one ends the process
	SYSCALL
	JMP  wait
first:
	MOVLQSX ·recordFile(SB), BX
	MOVL $5, AX             // fstat: the library may have closed the file, and opened another
	MOVQ BX, DI
	LEAQ ·scratch(SB), SI
	SYSCALL
	TESTQ AX, AX
	JNE  old
	MOVQ ·scratch+0(SB), AX
	CMPQ AX, ·recordDevice(SB)
	JNE  old
	MOVQ ·scratch+8(SB), AX
	CMPQ AX, ·recordInode(SB)
	JNE  old

	MOVL $18, AX            // pwrite64
	MOVQ BX, DI
	MOVQ R13, SI
	MOVQ $128, DX
	XORL R10, R10
	SYSCALL
	MOVL $18, AX
	MOVQ BX, DI
	MOVQ R14, SI
	MOVQ $448, DX
	MOVQ $128, R10
	SYSCALL
	MOVQ 160(R14), R15      // rsp
	ANDQ $~4095, R15
	MOVL $18, AX            // its page, which is none where the stack has overflowed
	MOVQ BX, DI
	MOVQ R15, SI
	MOVQ $4096, DX
	MOVQ $4096, R10
	SYSCALL
	MOVL $18, AX            // those above, as many as there are
	MOVQ BX, DI
	LEAQ 4096(R15), SI
	MOVQ $262144, DX
	MOVQ $8192, R10
	SYSCALL

	MOVL $257, AX           // openat
	MOVQ $-100, DI          // AT_FDCWD
	LEAQ ·mapsPath(SB), SI
	XORL DX, DX
	XORL R10, R10
	SYSCALL
	TESTQ AX, AX
	JLT  old
	MOVQ AX, R15
	MOVQ $1048576, R9
more:
	XORL AX, AX             // read
	MOVQ R15, DI
	LEAQ ·scratch(SB), SI
	MOVQ $16384, DX
	SYSCALL
	TESTQ AX, AX
	JLE  old
	MOVQ AX, DX
	MOVL $18, AX
	MOVQ BX, DI
	LEAQ ·scratch(SB), SI
	MOVQ R9, R10
	ADDQ DX, R9
	SYSCALL
	JMP  more
old:
	MOVQ R12, DI
	MOVQ R13, SI
	MOVQ R14, DX
	LEAQ ·oldHandlers(SB), AX
	MOVQ (AX)(R12*8), AX
	MOVQ 88(SI), BX
	MOVQ 96(SI), R12
	MOVQ 104(SI), R13
	MOVQ 112(SI), R14
	MOVQ 120(SI), R15
	TESTQ AX, AX
	JEQ  none
	JMP  AX
none:
	MOVQ DI, R8             // what a system call keeps, and a caller does not expect to be kept
	MOVL $13, AX            // rt_sigaction
	LEAQ ·systems(SB), SI
	XORL DX, DX
	MOVQ $8, R10
	SYSCALL
	MOVL $39, AX            // getpid
	SYSCALL
	MOVQ AX, R9
	MOVL $186, AX           // gettid
	SYSCALL
	MOVQ R9, DI
	MOVQ AX, SI
	MOVQ R8, DX
	MOVL $234, AX           // tgkill
	SYSCALL
	RET                     // to the restorer, or the library's handler

// restorer has the kernel take the thread back to where the signal was.
TEXT ·restorer(SB), NOSPLIT|NOFRAME, $0
	MOVL $15, AX            // rt_sigreturn
	SYSCALL
	INT  $3

// func restorerAddress() uintptr
TEXT ·restorerAddress(SB), NOSPLIT, $0-8
	LEAQ ·restorer(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// func handlerAddress() uintptr
TEXT ·handlerAddress(SB), NOSPLIT, $0-8
	LEAQ ·handler(SB), AX
	MOVQ AX, ret+0(FP)
	RET
