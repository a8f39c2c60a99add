#include "textflag.h"

// handler(R0: the signal, R1: siginfo_t *, R2: ucontext_t *) is what the kernel calls on a fault, on the thread's own
// alternate stack, if it has one; or a handler of the library's that came later. It uses no stack, takes no lock, and calls nothing but the
// kernel. At the end it is as if the handler had been called that was there before. Where there was none, the system's own way is put in
// force, and the signal is sent once more: it is blocked until the handler returns.
//
// A caller's registers are kept in the end of siginfo_t, which no fault uses. Variables are loaded by their addresses: the assembler would use
// R27 otherwise, which is a caller's, too.
TEXT ·handler(SB), NOSPLIT|NOFRAME, $0
	MOVD R19, 80(R1)
	MOVD R20, 88(R1)
	MOVD R21, 96(R1)
	MOVD R22, 104(R1)
	MOVD R23, 112(R1)
	MOVD R24, 120(R1)
	MOVD R0, R19            // what a system call keeps
	MOVD R1, R20
	MOVD R2, R21
	MOVD $172, R8           // getpid
	SVC
	MOVD $·process(SB), R9
	MOVW (R9), R9
	CMPW R9, R0
	BNE  old                // a process that the library has forked
	MOVW 8(R20), R9         // si_code
	CMPW $0, R9
	BGT  own
	CMPW $6, R19            // SIGABRT
	BNE  old                // somebody has sent the signal
	CMPW $-6, R9            // SI_TKILL: abort has
	BNE  old
own:
	MOVD 440(R21), R9       // pc
	MOVD $·codeStart(SB), R10
	MOVD (R10), R10
	CMP  R10, R9
	BLO  foreign
	MOVD $·codeEnd(SB), R10
	MOVD (R10), R10
	CMP  R10, R9
	BLO  old                // Go's code
foreign:
	MOVD $178, R8           // gettid
	SVC
	MOVD $·recorder(SB), R9
claim:
	LDAXRW (R9), R10
	CBNZW R10, taken        // the first one counts
	STLXRW R0, (R9), R11
	CBNZW R11, claim
	B    first
taken:
	CMPW R10, R0
	BEQ  old                // a fault in what came after it
wait:
	MOVD $0, R0             // ppoll without an end, until the first one ends the process
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $73, R8
	SVC
	B    wait
first:
	MOVD $·recordFile(SB), R22
	MOVW (R22), R22
	MOVD R22, R0            // fstat: the library may have closed the file, and opened another
	MOVD $·scratch(SB), R1
	MOVD $80, R8
	SVC
	CBNZ R0, old
	MOVD $·scratch(SB), R9
	MOVD $·recordDevice(SB), R10
	MOVD (R10), R10
	MOVD (R9), R11
	CMP  R10, R11
	BNE  old
	MOVD $·recordInode(SB), R10
	MOVD (R10), R10
	MOVD 8(R9), R11
	CMP  R10, R11
	BNE  old

	MOVD R22, R0
	MOVD R20, R1
	MOVD $128, R2
	MOVD $0, R3
	MOVD $68, R8            // pwrite64
	SVC
	MOVD R22, R0
	MOVD R21, R1
	MOVD $448, R2
	MOVD $128, R3
	MOVD $68, R8
	SVC
	MOVD 432(R21), R23      // sp
	AND  $~4095, R23, R23
	MOVD R22, R0            // its page, which is none where the stack has overflowed
	MOVD R23, R1
	MOVD $4096, R2
	MOVD $4096, R3
	MOVD $68, R8
	SVC
	MOVD R22, R0            // those above, as many as there are
	ADD  $4096, R23, R1
	MOVD $262144, R2
	MOVD $8192, R3
	MOVD $68, R8
	SVC

	MOVD $-100, R0          // AT_FDCWD
	MOVD $·mapsPath(SB), R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $56, R8            // openat
	SVC
	CMP  $0, R0
	BLT  old
	MOVD R0, R23
	MOVD $1048576, R24
more:
	MOVD R23, R0
	MOVD $·scratch(SB), R1
	MOVD $16384, R2
	MOVD $63, R8            // read
	SVC
	CMP  $0, R0
	BLE  old
	MOVD R0, R2
	MOVD R22, R0
	MOVD $·scratch(SB), R1
	MOVD R24, R3
	ADD  R2, R24, R24
	MOVD $68, R8
	SVC
	B    more
old:
	MOVD R19, R0
	MOVD R20, R1
	MOVD R21, R2
	MOVD $·oldHandlers(SB), R9
	MOVD (R9)(R19<<3), R9
	MOVD 80(R1), R19
	MOVD 88(R1), R20
	MOVD 96(R1), R21
	MOVD 104(R1), R22
	MOVD 112(R1), R23
	MOVD 120(R1), R24
	CBZ  R9, none
	B    (R9)
none:
	MOVD R0, R9             // what a system call keeps, and a caller does not expect to be kept
	MOVD $·systems(SB), R1  // rt_sigaction
	MOVD $0, R2
	MOVD $8, R3
	MOVD $134, R8
	SVC
	MOVD $172, R8           // getpid
	SVC
	MOVD R0, R10
	MOVD $178, R8           // gettid
	SVC
	MOVD R0, R1
	MOVD R10, R0
	MOVD R9, R2
	MOVD $131, R8           // tgkill
	SVC
	RET                     // to the kernel's own restorer, or the library's handler

// func restorerAddress() uintptr
TEXT ·restorerAddress(SB), NOSPLIT, $0-8
	MOVD ZR, ret+0(FP)
	RET

// func handlerAddress() uintptr
TEXT ·handlerAddress(SB), NOSPLIT, $0-8
	MOVD $·handler(SB), R0
	MOVD R0, ret+0(FP)
	RET
