package sandbox

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// The system calls that are allowed; all others are refused with EPERM. Names that an architecture does not have are
// passed over. What is bounded by its arguments is in conditions, too.
const (
	// For the Go runtime, the C library, and code that computes.
	always = `
		brk mmap munmap mprotect madvise mincore msync mlock mlock2 munlock mseal membarrier
		clone exit exit_group futex futex_waitv futex_wait futex_wake futex_requeue set_robust_list set_tid_address rseq
		arch_prctl prctl prlimit64 getrlimit getrusage getpid gettid getppid getpgrp getuid geteuid getgid getegid
		getresuid getresgid getgroups getcpu sysinfo uname getrandom
		sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler sched_get_priority_max
		sched_get_priority_min sched_rr_get_interval
		rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack restart_syscall
		pause kill tgkill rt_sigqueueinfo rt_tgsigqueueinfo
		clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getitimer setitimer
		timer_create timer_settime timer_gettime timer_getoverrun timer_delete
		timerfd_create timerfd_settime timerfd_gettime
		read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range dup dup2 dup3
		fcntl ioctl pipe pipe2 eventfd eventfd2 poll ppoll select pselect6
		epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
		open openat stat fstat lstat newfstatat fstatat statx access faccessat faccessat2 readlink readlinkat getcwd
		getdents64 fstatfs fadvise64 readahead recvmsg` // the last one of the socket by which the host hands libraries over

	// With Policy.Write. Not truncate, chmod, chown, utimes and setxattr: Landlock would not, or not always, keep them
	// to the folders of the policy. Not symlink: the host may follow what it finds there, to where the plug-in may not.
	writing = `mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat ftruncate
		fallocate fsync fdatasync sync_file_range flock copy_file_range sendfile`

	// With Policy.Connect or Policy.Listen, and with the one or the other.
	network = `socket getsockname getpeername getsockopt setsockopt shutdown sendto recvfrom sendmsg`
	client  = `connect`
	server  = `bind listen accept accept4`

	// With Policy.Processes.
	starting = `fork vfork execve wait4 waitid`

	// Of a launcher.
	launching = `execveat`

	// Without Policy.Memory. A mapping of a stack keeps its mark when it is moved and made larger, and RLIMIT_DATA does not
	// count stacks. Where it is refused with ENOMEM, realloc allocates and copies.
	moving = `mremap`

	// What the C library does without where it is missing, but not where it is refused. The arguments of these lie in
	// memory, where no filter can look.
	unknown = `clone3 openat2`
)

// args is a condition on the arguments of a system call: all of its parts.
type args = seccomp.ArgumentConditions

// condition refuses a system call whose arguments are any of these.
type condition struct {
	name string
	args []args
}

func refuse(name string, sets ...args) condition { return condition{name, sets} }

// unless is an argument that is none of the values. All its 64 bits count, of which the kernel may look at fewer, so
// that what would be unclear is refused.
func unless(argument uint32, values ...uint64) args {
	var all args
	for _, value := range values {
		all = append(all, seccomp.Condition{Argument: argument, Operation: seccomp.NotEqual, Value: value})
	}
	return all
}

// unread is an argument that neither prlimit64 nor execveat has: the kernel hands a filter all six registers.
const unread = 5

// given is an argument that has any of the bits; without, one that has not all of them.
func given(argument uint32, bits uint64) args {
	return args{{Argument: argument, Operation: seccomp.BitsSet, Value: bits}}
}

func without(argument uint32, bit uint64) args {
	return args{{Argument: argument, Operation: seccomp.BitsNotSet, Value: bit}}
}

// equal is an argument that has the value; above, one that is more. Where the kernel looks at 32 bits of an argument,
// equal needs above for the others.
func equal(argument uint32, value uint64) args {
	return args{{Argument: argument, Operation: seccomp.Equal, Value: value}}
}

func above(argument uint32, value uint64) args {
	return args{{Argument: argument, Operation: seccomp.GreaterThan, Value: value}}
}

// Flags and commands that golang.org/x/sys does not have under all architectures.
const (
	openTemporary = 0x400000 // the bit of O_TMPFILE that is not O_DIRECTORY's
	getSeals      = 1034     // F_GET_SEALS
	prSetVMA      = 0x53564d41
	fionread      = 0x541b
	fionbio       = 0x5421
	fioclex       = 0x5451
	fionclex      = 0x5450
	hwPoison      = 100 // MADV_HWPOISON, and MADV_SOFT_OFFLINE after it
	namespaces    = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
)

// conditions are the bounds on the arguments of allowed calls. timer is the one that ends the process, or -1. scoped
// says that Landlock keeps signals from processes outside.
func conditions(p *Policy, pid int, timer int32, scoped bool, launched *successor) []condition {
	var secret args // by which a launcher makes the calls that nothing makes after it
	if launched != nil {
		secret = unless(unread, launched.word)
	}
	commands := []uint64{unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL,
		unix.F_GETLK, unix.F_OFD_GETLK, unix.F_GETPIPE_SZ, getSeals}
	if len(p.Write) > 0 { // a lock on what may only be read would keep others from writing it
		commands = append(commands, unix.F_SETLK, unix.F_SETLKW, unix.F_OFD_SETLK, unix.F_OFD_SETLKW)
	}
	all := []condition{
		// Owners and signals of descriptors (F_SETOWN, F_SETSIG) would send any signal to any process of this user, and
		// seals are the host's, whose memory this is.
		refuse("fcntl", unless(1, commands...)),
		refuse("ioctl", unless(1, unix.TCGETS, unix.TIOCGWINSZ, fionread, fionbio, fioclex, fionclex)),
		// Not the parent-death signal, and not whether the process may be dumped or traced.
		refuse("prctl", unless(0, unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_GET_DUMPABLE, unix.PR_SET_NO_NEW_PRIVS,
			unix.PR_GET_NO_NEW_PRIVS, unix.PR_GET_SECCOMP, unix.PR_CAPBSET_READ, prSetVMA)),
		// By these root takes pages out of use, the host's as well.
		refuse("madvise", equal(2, hwPoison), equal(2, hwPoison+1), above(2, math.MaxUint32)),
		// Limits are read, the own ones.
		refuse("prlimit64", append(unless(0, 0, uint64(pid)), secret...), append(unless(2, 0), secret...)),
		refuse("sched_setaffinity", unless(0, 0)),
		refuse("clone", given(0, namespaces|unix.CLONE_PTRACE|unix.CLONE_PARENT)),
	}
	if launched != nil {
		all = append(all, refuse("execveat", secret))
	}
	if p.Processes == 0 {
		all = append(all, refuse("clone", without(0, unix.CLONE_THREAD)))
	}
	if p.Processes == 0 || !scoped {
		for _, name := range []string{"kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"} {
			all = append(all, refuse(name, unless(0, uint64(pid))))
		}
	}
	if len(p.Write) == 0 {
		// Landlock does not know files in memory, such as what this process shares with the host.
		const changing = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC | openTemporary
		all = append(all, refuse("open", given(1, changing)), refuse("openat", given(2, changing)))
	} else {
		// A file that is made runs as its owner for whoever starts it: of a worker of root's, as root. Without these two bits the mode counts for nothing.
		const privileged = unix.S_ISUID | unix.S_ISGID
		for name, flags := range map[string]uint32{"open": 1, "openat": 2} {
			all = append(all, refuse(name, append(given(flags, unix.O_CREAT|openTemporary), given(flags+1, privileged)...)))
		}
	}
	if len(p.Connect)+len(p.Listen) > 0 {
		// Landlock has rules for plain TCP only: not for Multipath TCP, nor for a connection that is made by sending.
		const stream, cloexec, nonblock = unix.SOCK_STREAM, unix.SOCK_CLOEXEC, unix.SOCK_NONBLOCK
		all = append(all,
			refuse("socket", unless(0, unix.AF_INET, unix.AF_INET6), unless(2, 0, unix.IPPROTO_TCP),
				unless(1, stream, stream|cloexec, stream|nonblock, stream|cloexec|nonblock)),
			refuse("sendto", given(3, unix.MSG_FASTOPEN), unless(4, 0)),
			refuse("sendmsg", given(2, unix.MSG_FASTOPEN)))
	}
	if p.Memory > 0 {
		// Memory that RLIMIT_DATA does not count: shared without a file, and stacks that grow by themselves.
		shared := append(given(3, unix.MAP_ANONYMOUS), given(3, unix.MAP_SHARED)...)
		all = append(all, refuse("mmap", shared, given(3, unix.MAP_GROWSDOWN)))
	}
	if timer >= 0 {
		for _, name := range []string{"timer_settime", "timer_delete"} {
			all = append(all, refuse(name, equal(0, uint64(timer)), above(0, math.MaxUint32)))
		}
	}
	return all
}

// allowed returns the names of the calls that a policy allows.
func allowed(p *Policy, launched *successor) []string {
	names := strings.Fields(always)
	if len(p.Write) > 0 {
		names = append(names, strings.Fields(writing)...)
	}
	if len(p.Connect)+len(p.Listen) > 0 {
		names = append(names, strings.Fields(network)...)
	}
	if len(p.Connect) > 0 {
		names = append(names, strings.Fields(client)...)
	}
	if len(p.Listen) > 0 {
		names = append(names, strings.Fields(server)...)
	}
	if p.Processes > 0 {
		names = append(names, strings.Fields(starting)...)
	}
	if launched != nil {
		names = append(names, launching)
	}
	if p.Memory == 0 {
		names = append(names, strings.Fields(moving)...)
	}
	return names
}

// filters returns what is to be loaded, in this order: one filter for each call with conditions, which lets through
// everything else, and then the one that lets through what is allowed. The kernel asks all of them, and the
// strictest answer counts.
//
// They are not one filter because of how the library compiles conditions: when they are not met it compares the next
// calls' numbers with an argument, not with the number of the call. In a filter of their own there is no next one.
func filters(p *Policy, pid int, timer int32, scoped bool, launched *successor) ([]seccomp.Policy, error) {
	table, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	known := func(names []string) []string {
		return slices.DeleteFunc(names, func(name string) bool { _, ok := table.SyscallNames[name]; return !ok })
	}
	var all []seccomp.Policy
	for _, c := range conditions(p, pid, timer, scoped, launched) {
		if len(known([]string{c.name})) == 0 {
			continue
		}
		group := seccomp.SyscallGroup{Action: seccomp.ActionErrno}
		for _, args := range c.args {
			call := seccomp.NameWithConditions{Name: c.name, Conditions: args}
			group.NamesWithCondtions = append(group.NamesWithCondtions, call)
		}
		all = append(all, seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{group}})
	}
	last := seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
		{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: known(strings.Fields(unknown))}}}
	if p.Memory > 0 {
		last.Syscalls = append(last.Syscalls, seccomp.SyscallGroup{
			Action: seccomp.ActionErrno | seccomp.Action(unix.ENOMEM), Names: known(strings.Fields(moving))})
	}
	for group := range slices.Chunk(known(allowed(p, launched)), 100) { // a jump reaches 255 instructions
		last.Syscalls = append(last.Syscalls, seccomp.SyscallGroup{Action: seccomp.ActionAllow, Names: group})
	}
	return append(all, last), nil
}

// onAllThreads is the flag by which a filter is every thread's, and it is an error when that cannot be. Without the
// second bit the kernel returns the number of a thread instead, which the library does not look at.
const onAllThreads = seccomp.FilterFlag(unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH)

// seccompLacks says why there is no seccomp for this process, or nothing.
func seccompLacks() (why string) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return "there is no list of system calls for " + runtime.GOARCH + ", only for amd64 and arm64"
	}
	// Without a filter, a kernel that knows the flags finds fault with its address.
	switch _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(onAllThreads), 0); e {
	case unix.EFAULT:
		return ""
	case unix.ENOSYS, unix.EINVAL:
		return "the kernel cannot filter system calls on all threads, Linux 5.7 with CONFIG_SECCOMP_FILTER can"
	default:
		return fmt.Sprintf("the kernel answers %v; does a container's seccomp profile refuse it?", e)
	}
}

// applySeccomp has the kernel refuse the system calls that the policy does not need.
func applySeccomp(p *Policy, timer int32, scoped bool, launched *successor) error {
	all, err := filters(p, unix.Getpid(), timer, scoped, launched)
	if err != nil {
		return err
	}
	for _, policy := range all {
		if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: onAllThreads, Policy: policy}); err != nil {
			return err
		}
	}
	return nil
}
