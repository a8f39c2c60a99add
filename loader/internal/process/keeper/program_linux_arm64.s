#include "textflag.h"

// As program_linux_amd64.s, to which the comments are. It differs in the system calls' numbers alone, which keep every
// register but R0 here.
#define fcntl 25
#define ioctl 29
#define dup3 24
#define chdir 49
#define fchdir 50
#define chroot 51
#define openat 56
#define close 57
#define read 63
#define write 64
#define ppoll 73
#define signalfd4 74
#define exit 93
#define waitid 95
#define kill 129
#define rt_sigaction 134
#define rt_sigprocmask 135
#define setpgid 154
#define setsid 157
#define prctl 167
#define getpid 172
#define getppid 173
#define clone 220
#define wait4 260
#define execveat 281
#define close_range 436

#define SYS(n) MOVD $n, R8; SVC

#define VFORK 0x4111

// The scratch memory, at R19.
#define ALL 0
#define NONE 8
#define ERRNO 16
#define STATUS 24
#define ACTION 32
#define SIGNALS 64
#define CONTROL 72
#define TIMEOUT 80
#define MESSAGE 96
#define CHILDREN 104
#define INFO 128
#define ROOT 256
#define EMPTY 257
#define HERE 258
#define PAUSE 264
#define DENIED 272
#define HOST 280
#define TERMINAL 288
#define TEXT_ 512

#define GIVEUP 75

// func program()
TEXT ·program(SB),NOSPLIT|NOFRAME,$0-0
	MOVD	RSP, R19
	MOVD	0(R19), R20
	ADD	$16, R19, R21
	ADD	R20<<3, R21, R22
	SUB	$8192, R19, R19
	AND	$~63, R19, R19

	MOVD	ZR, NONE(R19)
	MOVD	ZR, ERRNO(R19)
	MOVD	ZR, STATUS(R19)
	MOVD	ZR, 32(R19)
	MOVD	ZR, 40(R19)
	MOVD	ZR, 48(R19)
	MOVD	ZR, 56(R19)
	MOVD	ZR, 80(R19)
	MOVD	ZR, 88(R19)
	MOVD	ZR, DENIED(R19)
	MOVD	ZR, 296(R19)
	MOVD	$-1, R0
	MOVD	R0, ALL(R19)
	MOVD	$500000, R0
	MOVD	R0, PAUSE(R19)
	MOVD	$0x002e002f, R0
	MOVW	R0, ROOT(R19)
	MOVD	$0x732d646165726874, R0
	MOVD	R0, 104(R19)
	MOVD	$0x6c6968632f666c65, R0
	MOVD	R0, 112(R19)
	MOVD	$0x6e657264, R0
	MOVD	R0, 120(R19)
	MOVD	$0x7974742f7665642f, R0
	MOVD	R0, TERMINAL(R19)

	MOVD	$2, R0
	ADD	$ALL, R19, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	SYS(rt_sigprocmask)
	MOVD	$17, R0
	ADD	$ACTION, R19, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	SYS(rt_sigaction)
	MOVD	ZR, R0
	MOVD	ZR, R1
	SYS(setpgid)
	MOVD	$36, R0
	MOVD	$1, R1
	SYS(prctl)
	SYS(getppid)
	MOVW	R0, HOST(R19)
	MOVD	$1, R0
	MOVD	$18, R1
	SYS(prctl)
	MOVD	$4, R0
	MOVD	ZR, R1
	SYS(prctl)
	MOVD	$20, R0
	MOVD	$0xffffffff, R1
	MOVD	ZR, R2
	SYS(close_range)
	MOVD	$16, R20
cloexec:
	MOVD	R20, R0
	MOVD	$2, R1
	MOVD	$1, R2
	SYS(fcntl)
	ADD	$1, R20
	CMP	$20, R20
	BLT	cloexec
	MOVD	$19, R0
	SYS(fchdir)
	CMP	$0, R0
	BLT	rooted
	ADD	$HERE, R19, R0
	SYS(chroot)
rooted:
	ADD	$ROOT, R19, R0
	SYS(chdir)
	MOVD	$0x30000, R0
	MOVD	R0, MESSAGE(R19)
	MOVD	$-1, R0
	ADD	$MESSAGE, R19, R1
	MOVD	$8, R2
	MOVD	$0x80000, R3
	SYS(signalfd4)
	MOVD	$1030, R1
	MOVD	$20, R2
	SYS(fcntl)
	MOVW	R0, SIGNALS(R19)
	MOVD	$1, R1
	MOVW	R1, 68(R19)
	MOVD	$16, R0
	MOVW	R0, CONTROL(R19)
	MOVW	R1, 76(R19)

	SYS(getpid)
	MOVD	R0, R23
	MOVD	$VFORK, R0
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	SYS(clone)
	CBNZ	R0, started

	MOVD	$-100, R0
	ADD	$TERMINAL, R19, R1
	MOVD	$0x80902, R2
	MOVD	ZR, R3
	SYS(openat)
	CMN	$6, R0
	BEQ	grouped
	CMP	$0, R0
	BLT	apart
	MOVD	$0x5422, R1
	MOVD	ZR, R2
	SYS(ioctl)
	CBZ	R0, grouped
apart:
	SYS(setsid)
	JMP	bound
grouped:
	MOVD	ZR, R0
	MOVD	ZR, R1
	SYS(setpgid)
bound:
	MOVD	$1, R0
	MOVD	$9, R1
	SYS(prctl)
	SYS(getppid)
	CMPW	R23, R0
	BNE	unborn
	MOVD	$2, R0
	ADD	$NONE, R19, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	SYS(rt_sigprocmask)
	MOVD	$17, R0
	ADD	$EMPTY, R19, R1
	MOVD	R21, R2
	MOVD	R22, R3
	MOVD	$0x1000, R4
	SYS(execveat)
	MOVD	R0, ERRNO(R19)
unborn:
	MOVD	$127, R0
	SYS(exit)

started:
	MOVD	R0, R23                // the program; 0 when it has ended
	MOVD	ZR, R24                // whether all is to end
	MOVW	R0, MESSAGE(R19)
	MOVD	ERRNO(R19), R1
	CBZ	R1, tell
	MOVW	R1, MESSAGE(R19)
	MOVD	ZR, R23
	MOVD	$1, R24
tell:
	MOVD	$16, R0
	ADD	$MESSAGE, R19, R1
	MOVD	$4, R2
	SYS(write)
	MOVD	$17, R0
	SYS(close)
	MOVD	ZR, R20
closing:
	MOVD	R20, R0
	SYS(close)
	ADD	$1, R20
	CMP	$16, R20
	BLT	closing

reap:
	MOVD	ZR, R0
	MOVD	ZR, R1
	ADD	$INFO, R19, R2
	MOVD	$0x1000005, R3
	MOVD	ZR, R4
	SYS(waitid)
	CMP	$0, R0
	BLT	failed
	MOVWU	144(R19), R0           // si_pid
	CBZ	R0, running
	CMP	R23, R0
	BNE	bury

	MOVWU	152(R19), R1           // si_status
	MOVWU	136(R19), R2           // si_code
	CMP	$1, R2
	BNE	signaled
	AND	$255, R1, R1
	LSL	$8, R1, R1
signaled:
	CMP	$3, R2
	BNE	told
	ORR	$128, R1, R1
told:
	MOVW	R1, STATUS(R19)
	NEG	R23, R0
	MOVD	$9, R1
	SYS(kill)
	MOVD	$16, R0
	ADD	$STATUS, R19, R1
	MOVD	$4, R2
	SYS(write)
	MOVD	R23, R0
	MOVD	ZR, R23
	MOVD	$1, R24
bury:
	MOVD	ZR, R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	SYS(wait4)
	B	reap
failed:
	CMN	$4, R0
	BEQ	reap
over:
	MOVD	ZR, R0
	SYS(exit)

running:
	CBNZ	R24, ending
	ADD	$SIGNALS, R19, R0
	MOVD	$2, R1
	MOVD	ZR, R2
	B	poll

ending:
	MOVD	DENIED(R19), R0
	ADD	$1, R0
	MOVD	R0, DENIED(R19)
	CBZ	R23, orphans
	MOVD	R23, R0
	MOVD	$9, R1
	SYS(kill)
	CBNZ	R0, group
	MOVD	ZR, DENIED(R19)
group:
	NEG	R23, R0
	SYS(kill)
orphans:
	MOVD	$18, R0
	ADD	$CHILDREN, R19, R1
	MOVD	$0x80000, R2
	MOVD	ZR, R3
	SYS(openat)
	CMP	$0, R0
	BLT	blind
	MOVD	R0, R22
	MOVD	ZR, R21                // the number that is being read
more:
	MOVD	R22, R0
	ADD	$TEXT_, R19, R1
	MOVD	$4096, R2
	SYS(read)
	CMP	$0, R0
	BLE	end
	ADD	$TEXT_, R19, R25
	ADD	R0, R25, R26
next:
	CMP	R26, R25
	BHS	more
	MOVBU	(R25), R0
	ADD	$1, R25
	SUB	$48, R0, R0
	CMP	$9, R0
	BHI	ends
	MOVD	$10, R1
	MUL	R1, R21, R21
	ADD	R0, R21, R21
	B	next
ends:
	CBZ	R21, next
	MOVD	R21, R0
	MOVD	ZR, R21
	MOVD	$9, R1
	SYS(kill)
	CBNZ	R0, next
	MOVD	ZR, DENIED(R19)
	B	next
end:
	MOVD	R22, R0
	SYS(close)
	B	wait
blind:
	CBZ	R23, over
wait:
	MOVD	DENIED(R19), R0
	CMP	$GIVEUP, R0
	BLT	pause
	MOVD	ZR, 88(R19)
	MOVH	ZR, 78(R19)
	ADD	$CONTROL, R19, R0
	MOVD	$1, R1
	ADD	$TIMEOUT, R19, R2
	MOVD	ZR, R3
	MOVD	$8, R4
	SYS(ppoll)
	MOVHU	78(R19), R0
	TBNZ	$4, R0, over           // POLLHUP
pause:
	MOVD	PAUSE(R19), R0
	MOVD	$100000000, R1
	CMP	R1, R0
	BGT	same
	LSL	$1, R0, R0
	MOVD	R0, PAUSE(R19)
same:
	MOVD	R0, 88(R19)
	ADD	$SIGNALS, R19, R0
	MOVD	$1, R1
	ADD	$TIMEOUT, R19, R2
poll:
	MOVH	ZR, 70(R19)
	MOVH	ZR, 78(R19)
	MOVD	ZR, R3
	MOVD	$8, R4
	SYS(ppoll)
	MOVHU	70(R19), R0
	CBZ	R0, asked
	MOVWU	SIGNALS(R19), R0
	ADD	$INFO, R19, R1
	MOVD	$128, R2
	SYS(read)
	MOVWU	INFO(R19), R0
	CMP	$18, R0
	BNE	asked
	SYS(getppid)
	MOVWU	HOST(R19), R1
	CMP	R1, R0
	BEQ	asked
	MOVD	$1, R24
asked:
	MOVHU	78(R19), R0
	CBZ	R0, reap
	MOVD	$1, R24
	B	reap
	WORD	$0xc455252f
	WORD	$0x504545b4
	UNDEF

// func programAddr() uintptr
TEXT ·programAddr(SB),NOSPLIT,$0-8
	MOVD	$·program(SB), R0
	MOVD	R0, ret+0(FP)
	RET

// func spawn(r *request) int
TEXT ·spawn(SB),NOSPLIT,$0-16
	MOVD	r+0(FP), R19
	MOVD	$2, R0
	MOVD	R19, R1
	ADD	$8, R19, R2
	MOVD	$8, R3
	SYS(rt_sigprocmask)
	MOVD	$VFORK, R0
	MOVD	16(R19), R1
	MOVD	ZR, R2
	MOVD	ZR, R3
	MOVD	ZR, R4
	SYS(clone)
	CBZ	R0, child
	MOVD	R0, R20
	MOVD	$2, R0
	ADD	$8, R19, R1
	MOVD	ZR, R2
	MOVD	$8, R3
	SYS(rt_sigprocmask)
	MOVD	R20, ret+8(FP)
	RET

child:
	MOVD	72(R19), R20
	MOVD	64(R19), R21
move:
	MOVD	0(R20), R0
	MOVD	$1030, R1
	MOVD	$32, R2
	SYS(fcntl)
	CMP	$0, R0
	BLT	fails
	MOVD	R0, 0(R20)
	ADD	$16, R20
	SUB	$1, R21
	CBNZ	R21, move
	MOVD	24(R19), R0
	MOVD	$1030, R1
	MOVD	$32, R2
	SYS(fcntl)
	CMP	$0, R0
	BLT	fails
	MOVD	R0, 24(R19)
	MOVD	ZR, R20
clear:
	MOVD	R20, R0
	SYS(close)
	ADD	$1, R20
	CMP	$32, R20
	BLT	clear
	MOVD	72(R19), R20
	MOVD	64(R19), R21
place:
	MOVD	0(R20), R0
	MOVD	8(R20), R1
	MOVD	ZR, R2
	SYS(dup3)
	CMP	$0, R0
	BLT	fails
	ADD	$16, R20
	SUB	$1, R21
	CBNZ	R21, place
	MOVD	24(R19), R0
	MOVD	32(R19), R1
	MOVD	40(R19), R2
	MOVD	48(R19), R3
	MOVD	$0x1000, R4
	SYS(execveat)
fails:
	MOVD	R0, 56(R19)
	NEG	R0, R0
	SYS(exit)
	UNDEF
