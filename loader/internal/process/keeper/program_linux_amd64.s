#include "textflag.h"

// The keeper's program, and how it is started. See keeper.go for what it does, and keeper_linux.go for its descriptors. Both
// parts use no memory but their stack, or what they are handed: the first is copied into a file of its own, and the second runs in a
// process that shares the memory of this one.

// System calls. The kernel keeps every register but AX, CX and R11.
#define read 0
#define write 1
#define close 3
#define rt_sigaction 13
#define rt_sigprocmask 14
#define ioctl 16
#define getpid 39
#define clone 56
#define exit 60
#define wait4 61
#define kill 62
#define fcntl 72
#define chdir 80
#define fchdir 81
#define setpgid 109
#define getppid 110
#define setsid 112
#define prctl 157
#define chroot 161
#define waitid 247
#define openat 257
#define ppoll 271
#define signalfd4 289
#define dup3 292
#define execveat 322
#define close_range 436

#define SYS(n) MOVL $n, AX; SYSCALL

#define VFORK 0x4111 // CLONE_VM | CLONE_VFORK | SIGCHLD

// The keeper's scratch memory, below its stack.
#define ALL 0(BX)       // a set of all signals
#define NONE 8(BX)      // a set of none, and other zeros
#define ERRNO 16(BX)    // of the program's exec
#define STATUS 24(BX)   // how the program has ended, as wait4 says it
#define ACTION 32(BX)   // a struct sigaction of zeros, 32 bytes
#define SIGNALS 64(BX)  // a struct pollfd: the signals' descriptor
#define CONTROL 72(BX)  // another one: the host's
#define TIMEOUT 80(BX)  // a struct timespec
#define MESSAGE 96(BX)
#define CHILDREN 104(BX) // "thread-self/children"
#define INFO 128(BX)    // a struct signalfd_siginfo or siginfo, 128 bytes
#define ROOT 256(BX)    // "/"
#define EMPTY 257(BX)   // ""
#define HERE 258(BX)    // "."
#define PAUSE 264(BX)   // how long to wait for those that were killed, in ns
#define DENIED 272(BX)  // how often in a row none of those that are left could be killed
#define HOST 280(BX)    // the host's number; 0 where that is in another PID namespace, and control alone tells of its end
#define TERMINAL 288(BX) // "/dev/tty"
#define TEXT_ 512(BX)   // 4096 bytes

// After so many rounds in which it may kill none of its children, some 10 s, a keeper without a host gives up.
#define GIVEUP 75

// func program()
TEXT ·program(SB),NOSPLIT,$0-0
	// What the kernel has put on the stack: argc, argv, NULL, the environment, NULL.
	MOVQ	SP, BX
	MOVQ	0(BX), CX
	LEAQ	16(BX), R12            // the program's arguments: all but the first
	LEAQ	16(BX)(CX*8), R13      // its environment
	SUBQ	$8192, BX
	ANDQ	$~63, BX

	XORL	AX, AX
	MOVQ	AX, NONE
	MOVQ	AX, ERRNO
	MOVQ	AX, STATUS
	MOVQ	AX, 32(BX)
	MOVQ	AX, 40(BX)
	MOVQ	AX, 48(BX)
	MOVQ	AX, 56(BX)
	MOVQ	AX, 80(BX)
	MOVQ	AX, 88(BX)
	MOVQ	AX, DENIED
	MOVQ	AX, 296(BX)
	NOTQ	AX
	MOVQ	AX, ALL
	MOVL	$500000, AX
	MOVQ	AX, PAUSE
	MOVL	$0x002e002f, ROOT      // "/", "", "."
	MOVQ	$0x732d646165726874, AX // "thread-s"
	MOVQ	AX, 104(BX)
	MOVQ	$0x6c6968632f666c65, AX // "elf/chil"
	MOVQ	AX, 112(BX)
	MOVQ	$0x6e657264, AX         // "dren"
	MOVQ	AX, 120(BX)
	MOVQ	$0x7974742f7665642f, AX // "/dev/tty"
	MOVQ	AX, TERMINAL

	MOVL	$2, DI                 // SIG_SETMASK
	LEAQ	ALL, SI
	XORL	DX, DX
	MOVL	$8, R10
	SYS(rt_sigprocmask)
	MOVL	$17, DI                // SIGCHLD: a host that ignores it would have it ignored here, too
	LEAQ	ACTION, SI
	XORL	DX, DX
	MOVL	$8, R10
	SYS(rt_sigaction)
	XORL	DI, DI                 // a group of its own, in the host's session: so the kernel sends SIGCONT to a keeper that
	XORL	SI, SI                 // is stopped when the host ends, because its group is an orphan then, if nothing has put a process into it
	SYS(setpgid)
	MOVL	$36, DI                // PR_SET_CHILD_SUBREAPER
	MOVL	$1, SI
	SYS(prctl)
	SYS(getppid)
	MOVL	AX, HOST
	MOVL	$1, DI                 // PR_SET_PDEATHSIG
	MOVL	$18, SI                // SIGCONT, which is read from a descriptor; it also wakes a keeper that is stopped, or is about to be
	SYS(prctl)
	MOVL	$4, DI                 // PR_SET_DUMPABLE
	XORL	SI, SI
	SYS(prctl)
	MOVL	$20, DI
	MOVL	$-1, SI
	XORL	DX, DX
	SYS(close_range)
	MOVL	$16, DI
cloexec:
	MOVL	$2, SI                 // F_SETFD
	MOVL	$1, DX                 // FD_CLOEXEC
	SYS(fcntl)
	INCL	DI
	CMPL	DI, $20
	JLT	cloexec
	MOVL	$19, DI
	SYS(fchdir)
	TESTQ	AX, AX
	JLT	rooted                 // there is none
	LEAQ	HERE, DI
	SYS(chroot)                // where this process may
rooted:
	LEAQ	ROOT, DI
	SYS(chdir)
	MOVL	$0x30000, AX           // SIGCHLD and SIGCONT
	MOVQ	AX, MESSAGE
	MOVL	$-1, DI
	LEAQ	MESSAGE, SI
	MOVL	$8, DX
	MOVL	$0x80000, R10          // SFD_CLOEXEC
	SYS(signalfd4)
	MOVL	AX, DI                 // it may be one of the program's numbers, which are closed below
	MOVL	$1030, SI              // F_DUPFD_CLOEXEC
	MOVL	$20, DX
	SYS(fcntl)
	MOVL	AX, SIGNALS
	MOVL	$1, 68(BX)             // POLLIN
	MOVL	$16, CONTROL
	MOVL	$1, 76(BX)

	SYS(getpid)
	MOVL	AX, R14
	MOVL	$VFORK, DI
	XORL	SI, SI                 // the same stack: neither side pushes anything
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYS(clone)
	TESTQ	AX, AX
	JNZ	started

	// The child, until it is the program. It has a group of its own and no terminal, but stays in the host's session: a kernel that
	// shares its processors by sessions (sched_autogroup_enabled) would else let each side of a call wait for its session's turn.
	// A terminal that it cannot give up it leaves together with the session. Where root has put a socket in the place of /dev/tty, it keeps it.
	MOVL	$-100, DI              // AT_FDCWD
	LEAQ	TERMINAL, SI
	MOVL	$0x80902, DX           // O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC
	XORL	R10, R10
	SYS(openat)
	CMPQ	AX, $-6                // ENXIO: it has none
	JEQ	grouped
	MOVQ	AX, DI
	TESTQ	AX, AX
	JLT	apart
	MOVL	$0x5422, SI            // TIOCNOTTY, which sends no signals where it is not the session's leader who asks for it
	XORL	DX, DX
	SYS(ioctl)
	TESTQ	AX, AX
	JEQ	grouped
apart:
	SYS(setsid)
	JMP	bound
grouped:
	XORL	DI, DI
	XORL	SI, SI
	SYS(setpgid)
bound:
	MOVL	$1, DI                 // PR_SET_PDEATHSIG
	MOVL	$9, SI                 // SIGKILL
	SYS(prctl)
	SYS(getppid)
	CMPL	AX, R14
	JNE	unborn                 // its keeper was killed before it asked to go with it
	MOVL	$2, DI
	LEAQ	NONE, SI
	XORL	DX, DX
	MOVL	$8, R10
	SYS(rt_sigprocmask)
	MOVL	$17, DI
	LEAQ	EMPTY, SI
	MOVQ	R12, DX
	MOVQ	R13, R10
	MOVL	$0x1000, R8            // AT_EMPTY_PATH
	SYS(execveat)
	MOVQ	AX, ERRNO
unborn:
	MOVL	$127, DI
	SYS(exit)

started:
	MOVQ	AX, R14                // the program; 0 when it has ended
	XORL	R12, R12               // whether all is to end
	MOVL	AX, MESSAGE
	MOVQ	ERRNO, CX
	TESTQ	CX, CX
	JZ	tell
	MOVL	CX, MESSAGE
	XORL	R14, R14               // it is no program
	MOVL	$1, R12
tell:
	MOVL	$16, DI
	LEAQ	MESSAGE, SI
	MOVL	$4, DX
	SYS(write)
	MOVL	$17, DI
	SYS(close)
	XORL	DI, DI
closing:
	SYS(close)
	INCL	DI
	CMPL	DI, $16
	JLT	closing

reap:
	XORL	DI, DI                 // P_ALL
	XORL	SI, SI
	LEAQ	INFO, DX
	MOVL	$0x1000005, R10        // WNOHANG | WEXITED | WNOWAIT
	XORL	R8, R8
	SYS(waitid)
	TESTQ	AX, AX
	JLT	failed
	MOVL	144(BX), DI            // si_pid
	TESTL	DI, DI
	JZ	running
	CMPQ	DI, R14
	JNE	bury

	// The program has ended. As long as it is not reaped its number is its own, and its group's: it is killed now. The host
	// is told before, too: what it gets by that number until then is the program.
	MOVL	152(BX), AX            // si_status
	MOVL	136(BX), CX            // si_code
	CMPL	CX, $1                 // CLD_EXITED
	JNE	signaled
	ANDL	$255, AX
	SHLL	$8, AX
signaled:
	CMPL	CX, $3                 // CLD_DUMPED
	JNE	told
	ORL	$128, AX
told:
	MOVL	AX, STATUS
	NEGQ	DI
	MOVL	$9, SI
	SYS(kill)
	MOVL	$16, DI
	LEAQ	STATUS, SI
	MOVL	$4, DX
	SYS(write)
	MOVQ	R14, DI
	XORL	R14, R14
	MOVL	$1, R12
bury:
	XORL	SI, SI
	XORL	DX, DX
	XORL	R10, R10
	SYS(wait4)
	JMP	reap
failed:
	CMPQ	AX, $-4                // EINTR
	JEQ	reap
over:
	XORL	DI, DI
	SYS(exit)

running:
	TESTL	R12, R12
	JNZ	ending
	LEAQ	SIGNALS, DI
	MOVL	$2, SI
	XORL	DX, DX                 // for ever
	JMP	poll

ending:
	INCQ	DENIED
	TESTQ	R14, R14
	JZ	orphans
	MOVQ	R14, DI
	MOVL	$9, SI
	SYS(kill)
	TESTQ	AX, AX
	JNZ	group
	MOVQ	AX, DENIED
group:
	NEGQ	DI
	SYS(kill)
orphans:
	MOVL	$18, DI
	LEAQ	CHILDREN, SI
	MOVL	$0x80000, DX           // O_RDONLY | O_CLOEXEC
	XORL	R10, R10
	SYS(openat)
	TESTQ	AX, AX
	JLT	blind
	MOVQ	AX, R13
	XORL	R10, R10               // the number that is being read
	MOVL	$0, MESSAGE
more:
	MOVQ	R13, DI
	LEAQ	TEXT_, SI
	MOVL	$4096, DX
	SYS(read)
	TESTQ	AX, AX
	JLE	end
	MOVQ	SI, R8
	LEAQ	(SI)(AX*1), R9
next:
	CMPQ	R8, R9
	JGE	more
	MOVBLZX	(R8), AX
	INCQ	R8
	SUBL	$48, AX
	CMPL	AX, $9
	JHI	ends
	IMULQ	$10, R10
	ADDQ	AX, R10
	JMP	next
ends:
	TESTQ	R10, R10
	JZ	next
	MOVQ	R10, DI
	XORL	R10, R10
	MOVL	$9, SI
	SYS(kill)
	TESTQ	AX, AX
	JNZ	next
	MOVQ	AX, DENIED
	JMP	next
end:
	MOVQ	R13, DI
	SYS(close)
	JMP	wait
blind:
	TESTQ	R14, R14
	JZ	over                   // who they are is not to be had
wait:
	MOVQ	DENIED, AX
	CMPQ	AX, $GIVEUP
	JLT	pause
	MOVQ	$0, 88(BX)
	MOVW	$0, 78(BX)
	LEAQ	CONTROL, DI
	MOVL	$1, SI
	LEAQ	TIMEOUT, DX
	XORL	R10, R10
	MOVL	$8, R8
	SYS(ppoll)
	MOVWLZX	78(BX), AX
	TESTL	$16, AX                // POLLHUP: the host is gone, and not only its wish that the program lives
	JNZ	over
pause:
	MOVQ	PAUSE, AX              // twice as long each time, from 1 ms to 128
	CMPQ	AX, $100000000
	JGT	same
	SHLQ	$1, AX
	MOVQ	AX, PAUSE
same:
	MOVQ	AX, 88(BX)             // the kernel writes there what is left of it
	LEAQ	SIGNALS, DI
	MOVL	$1, SI
	LEAQ	TIMEOUT, DX
poll:
	MOVW	$0, 70(BX)
	MOVW	$0, 78(BX)
	XORL	R10, R10
	MOVL	$8, R8
	SYS(ppoll)
	MOVWLZX	70(BX), AX
	TESTL	AX, AX
	JZ	asked
	MOVL	SIGNALS, DI
	LEAQ	INFO, SI
	MOVL	$128, DX
	SYS(read)
	MOVL	INFO, AX
	CMPL	AX, $18
	JNE	asked
	SYS(getppid)
	CMPL	AX, HOST
	JEQ	asked                  // somebody has woken it; control says why, if it was the host
	MOVL	$1, R12
asked:
	MOVWLZX	78(BX), AX
	TESTL	AX, AX
	JZ	reap
	MOVL	$1, R12                // the host is gone, or has closed its end
	JMP	reap
	// By this, whoever copies the program knows where it ends.
	QUAD	$0x504545b4c455252f
	UNDEF

// func programAddr() uintptr
TEXT ·programAddr(SB),NOSPLIT,$0-8
	MOVQ	$·program(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func spawn(r *request) int
//
// No Go code runs in the child, and nothing that needs Go's: it has a stack of its own, and all signals are blocked.
TEXT ·spawn(SB),NOSPLIT,$0-16
	MOVQ	r+0(FP), BX
	MOVL	$2, DI
	LEAQ	0(BX), SI
	LEAQ	8(BX), DX
	MOVL	$8, R10
	SYS(rt_sigprocmask)
	MOVL	$VFORK, DI
	MOVQ	16(BX), SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYS(clone)
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, R12
	MOVL	$2, DI
	LEAQ	8(BX), SI
	XORL	DX, DX
	MOVL	$8, R10
	SYS(rt_sigprocmask)
	MOVQ	R12, ret+8(FP)
	RET

child:
	// Descriptors move out of the way of those that they are to be.
	MOVQ	72(BX), R12
	MOVQ	64(BX), R13
move:
	MOVQ	0(R12), DI
	MOVL	$1030, SI              // F_DUPFD_CLOEXEC
	MOVL	$32, DX
	SYS(fcntl)
	TESTQ	AX, AX
	JLT	fails
	MOVQ	AX, 0(R12)
	ADDQ	$16, R12
	DECQ	R13
	JNZ	move
	MOVQ	24(BX), DI
	MOVL	$1030, SI
	MOVL	$32, DX
	SYS(fcntl)
	TESTQ	AX, AX
	JLT	fails
	MOVQ	AX, 24(BX)
	XORL	DI, DI
clear:
	SYS(close)
	INCL	DI
	CMPL	DI, $32
	JLT	clear
	MOVQ	72(BX), R12
	MOVQ	64(BX), R13
place:
	MOVQ	0(R12), DI
	MOVQ	8(R12), SI
	XORL	DX, DX
	SYS(dup3)
	TESTQ	AX, AX
	JLT	fails
	ADDQ	$16, R12
	DECQ	R13
	JNZ	place
	MOVQ	24(BX), DI
	MOVQ	32(BX), SI
	MOVQ	40(BX), DX
	MOVQ	48(BX), R10
	MOVL	$0x1000, R8
	SYS(execveat)
fails:
	MOVQ	AX, 56(BX)
	MOVQ	AX, DI                 // where it does not share the memory, as in an emulator, its exit code says why
	NEGQ	DI
	SYS(exit)
	UNDEF
