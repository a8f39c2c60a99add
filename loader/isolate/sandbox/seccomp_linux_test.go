//go:build amd64 || arm64

package sandbox

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// program is the filters of a policy, to be run here instead of in the kernel: in the words that the kernel gets.
type program struct {
	t       testing.TB
	filters [][]unix.SockFilter
	table   *arch.Info
}

const ownPID, ownTimer = 4242, 7

func compile(t testing.TB, p Policy, timer int32, scoped bool) *program {
	t.Helper()
	return compileFor(t, p, timer, scoped, nil)
}

func compileFor(t testing.TB, p Policy, timer int32, scoped bool, launched *successor) *program {
	t.Helper()
	policies, err := filters(&p, ownPID, timer, scoped, launched)
	require.NoError(t, err)
	table, err := arch.GetInfo("")
	require.NoError(t, err)
	c := &program{t: t, table: table}
	for _, policy := range policies {
		instructions, err := policy.Assemble()
		require.NoError(t, err)
		var filter []unix.SockFilter
		for _, instruction := range instructions {
			raw, err := instruction.Assemble()
			require.NoError(t, err)
			filter = append(filter, unix.SockFilter{Code: raw.Op, Jt: raw.Jt, Jf: raw.Jf, K: raw.K})
		}
		c.filters = append(c.filters, filter)
	}
	return c
}

// errno returns the error with which the kernel would refuse a system call, or 0.
func (c *program) errno(machine, nr uint32, args ...uint64) unix.Errno {
	for i := len(c.filters) - 1; i >= 0; i-- { // of several refusals the latest filter's counts
		switch action := c.run(c.filters[i], machine, nr, args); {
		case action == uint32(seccomp.ActionAllow):
		case action&^0xffff == uint32(seccomp.ActionErrno):
			return unix.Errno(action & 0xffff)
		default:
			c.t.Fatalf("filter %d answers %#x", i, action)
		}
	}
	return 0
}

// allows says whether a call by its name is allowed, with these arguments and then zeros.
func (c *program) allows(name string, args ...uint64) bool {
	nr, ok := c.table.SyscallNames[name]
	require.True(c.t, ok, name)
	return c.errno(uint32(c.table.ID), uint32(nr), args...) == 0
}

func (c *program) run(filter []unix.SockFilter, machine, nr uint32, args []uint64) uint32 {
	words := [16]uint32{nr, machine} // struct seccomp_data, little endian; then the instruction pointer
	for i, arg := range args {
		words[4+2*i], words[5+2*i] = uint32(arg), uint32(arg>>32)
	}
	var a uint32
	for at := 0; at < len(filter); at++ {
		i := filter[at]
		holds := false
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			require.Zero(c.t, i.K%4)
			a = words[i.K/4]
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JA:
			at += int(i.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = a == i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			holds = a > i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = a >= i.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			holds = a&i.K != 0
		default:
			c.t.Fatalf("an instruction that is not expected: %v", i)
		}
		if holds {
			at += int(i.Jt)
		} else {
			at += int(i.Jf)
		}
	}
	c.t.Fatal("a filter without an answer")
	return 0
}

// policies is one of each shape that makes other filters.
var policies = map[string]Policy{
	"zero":      {},
	"write":     {Write: []string{"/w"}},
	"connect":   {Connect: []uint16{443}},
	"listen":    {Listen: []uint16{80}},
	"processes": {Processes: 2},
	"memory":    {Memory: 1 << 30},
	"all":       {Write: []string{"/w"}, Connect: []uint16{443}, Listen: []uint16{80}, Processes: 2, Memory: 1 << 30},
}

func TestFilterKnowsEachNumber(t *testing.T) {
	for name, p := range policies {
		c := compile(t, p, -1, true)
		names := allowed(&p, nil)
		var conditional []string
		for _, cond := range conditions(&p, ownPID, -1, true, nil) {
			conditional = append(conditional, cond.name)
			assert.Contains(t, names, cond.name, "a condition on what is refused anyway")
		}
		seen := 0
		for nr := range uint32(1024) {
			call, known := c.table.SyscallNumbers[int(nr)]
			want := unix.EPERM
			switch {
			case slices.Contains(conditional, call):
				continue
			case known && slices.Contains(strings.Fields(unknown), call):
				want = unix.ENOSYS
			case call == "mremap" && p.Memory > 0: // what realloc takes for a lack of memory
				want = unix.ENOMEM
			case known && slices.Contains(names, call):
				want = 0
				seen++
			}
			assert.Equal(t, want, c.errno(uint32(c.table.ID), nr), "%s: %s (%d)", name, call, nr)
		}
		assert.Greater(t, seen, 80)
	}
}

func TestFilterKnowsOneConvention(t *testing.T) {
	for _, p := range policies {
		c := compile(t, p, -1, false)
		for nr := range uint32(600) {
			for _, other := range []*arch.Info{arch.I386, arch.ARM, arch.AARCH64, arch.X86_64} {
				if other.ID != c.table.ID {
					assert.Equal(t, unix.EPERM, c.errno(uint32(other.ID), nr))
				}
			}
			if c.table.ID == arch.X86_64.ID {
				assert.Equal(t, unix.ENOSYS, c.errno(uint32(c.table.ID), nr|uint32(arch.X32.SeccompMask)))
			}
		}
	}
}

// Each name is a system call of at least one of the two architectures, and stands once.
func TestNamesAreSystemCalls(t *testing.T) {
	names := strings.Fields(strings.Join([]string{always, writing, network, client, server, starting, unknown}, " "))
	for _, name := range names {
		_, amd64 := arch.X86_64.SyscallNames[name]
		_, arm64 := arch.AARCH64.SyscallNames[name]
		assert.True(t, amd64 || arm64, name)
	}
	slices.Sort(names)
	assert.Equal(t, slices.Compact(slices.Clone(names)), names)
}

// What no policy allows.
func TestNeverAllowed(t *testing.T) {
	for _, name := range strings.Fields(`
		ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd pidfd_send_signal kcmp process_madvise
		tkill mount umount2 unshare setns bpf perf_event_open keyctl add_key request_key io_uring_setup
		io_uring_enter io_uring_register userfaultfd open_by_handle_at name_to_handle_at init_module finit_module
		delete_module kexec_load reboot personality memfd_create memfd_secret chroot pivot_root swapon swapoff
		execveat socketpair shmget shmat msgget semget mq_open inotify_init1 fanotify_init setuid setgid setresuid
		setgroups capset seccomp landlock_restrict_self setsid setpgid setpriority sched_setscheduler
		sched_setattr migrate_pages move_pages truncate fchmod fchmodat fchown fchownat utimensat setxattr
		fsetxattr removexattr chdir acct quotactl syslog clock_settime settimeofday adjtimex sethostname vhangup
		sendmmsg splice vmsplice tee clone3 openat2`) {
		for shape, p := range policies {
			assert.False(t, compile(t, p, -1, true).allows(name), "%s: %s", shape, name)
		}
	}
}

func TestConditions(t *testing.T) {
	zero, all := compile(t, Policy{}, ownTimer, true), compile(t, policies["all"], -1, true)
	unscoped := compile(t, policies["processes"], -1, false)
	const pthread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD |
		unix.CLONE_SYSVSEM | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID
	const high = 1 << 32 // what the kernel does not look at in an int
	for _, c := range []struct {
		in   *program
		name string
		args []uint64
		want bool
	}{
		{zero, "clone", []uint64{pthread}, true},
		{zero, "clone", []uint64{0}, false},
		{zero, "clone", []uint64{uint64(unix.SIGCHLD)}, false},
		{zero, "clone", []uint64{unix.CLONE_VFORK | unix.CLONE_VM}, false},
		{zero, "clone", []uint64{unix.CLONE_THREAD << 32}, false},
		{zero, "clone", []uint64{pthread | unix.CLONE_NEWNET}, false},
		{all, "clone", []uint64{uint64(unix.SIGCHLD)}, true},
		{all, "clone", []uint64{uint64(unix.SIGCHLD) | unix.CLONE_NEWUSER}, false},
		{all, "clone", []uint64{unix.CLONE_NEWPID}, false},
		{zero, "kill", []uint64{ownPID, 9}, true},
		{zero, "kill", []uint64{ownPID + 1, 9}, false},
		{zero, "kill", []uint64{0, 9}, false},
		{zero, "kill", []uint64{^uint64(0), 9}, false},
		{zero, "kill", []uint64{-ownPID & 0xffffffff, 9}, false},
		{zero, "kill", []uint64{ownPID | high, 9}, false},
		{all, "kill", []uint64{1, 9}, true}, // Landlock keeps signals inside
		{unscoped, "kill", []uint64{1, 9}, false},
		{zero, "tgkill", []uint64{ownPID, 5, 9}, true},
		{zero, "tgkill", []uint64{5, ownPID, 9}, false},
		{zero, "rt_sigqueueinfo", []uint64{5}, false},
		{zero, "rt_tgsigqueueinfo", []uint64{5}, false},
		{zero, "fcntl", []uint64{3, unix.F_GETFL}, true},
		{zero, "fcntl", []uint64{3, unix.F_SETOWN, 1}, false},
		{zero, "fcntl", []uint64{3, unix.F_SETOWN | high, 1}, false},
		{zero, "fcntl", []uint64{3, 10, 9}, false}, // F_SETSIG
		{zero, "fcntl", []uint64{3, 15, 9}, false}, // F_SETOWN_EX
		{zero, "fcntl", []uint64{3, unix.F_ADD_SEALS, 9}, false},
		{zero, "ioctl", []uint64{1, unix.TCGETS}, true},
		{zero, "ioctl", []uint64{1, unix.TIOCSTI}, false},
		{zero, "ioctl", []uint64{1, unix.TIOCSTI | high}, false},
		{zero, "ioctl", []uint64{1, 0x8901}, false}, // FIOSETOWN
		{zero, "prctl", []uint64{unix.PR_SET_NAME}, true},
		{zero, "prctl", []uint64{unix.PR_SET_PDEATHSIG}, false},
		{zero, "prctl", []uint64{unix.PR_SET_DUMPABLE, 1}, false},
		{zero, "prctl", []uint64{unix.PR_SET_PTRACER}, false},
		{zero, "prctl", []uint64{unix.PR_SET_SECCOMP}, false},
		{zero, "madvise", []uint64{0, 4096, unix.MADV_DONTNEED}, true},
		{zero, "madvise", []uint64{0, 4096, 100}, false},
		{zero, "madvise", []uint64{0, 4096, 101}, false},
		{zero, "madvise", []uint64{0, 4096, 100 | high}, false},
		{zero, "madvise", []uint64{0, 4096, 102}, true}, // MADV_GUARD_INSTALL
		{zero, "prlimit64", []uint64{0, unix.RLIMIT_AS, 0, 4096}, true},
		{zero, "prlimit64", []uint64{ownPID, unix.RLIMIT_AS, 0, 4096}, true},
		{zero, "prlimit64", []uint64{0, unix.RLIMIT_AS, 4096, 0}, false},
		{zero, "prlimit64", []uint64{0, unix.RLIMIT_AS, high, 0}, false},
		{zero, "prlimit64", []uint64{1, unix.RLIMIT_AS, 0, 4096}, false},
		{zero, "sched_setaffinity", []uint64{0}, true},
		{zero, "sched_setaffinity", []uint64{1}, false},
		{zero, "openat", []uint64{0, 0, unix.O_RDONLY | unix.O_CLOEXEC | unix.O_DIRECTORY | unix.O_NONBLOCK}, true},
		{zero, "openat", []uint64{0, 0, unix.O_WRONLY}, false},
		{zero, "openat", []uint64{0, 0, unix.O_RDWR}, false},
		{zero, "openat", []uint64{0, 0, unix.O_CREAT}, false},
		{zero, "openat", []uint64{0, 0, unix.O_TRUNC}, false},
		{zero, "openat", []uint64{0, 0, unix.O_TMPFILE}, false},
		{all, "openat", []uint64{0, 0, unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC}, true},
		{all, "openat", []uint64{0, 0, unix.O_RDWR | unix.O_CREAT, 0o1777}, true},
		{all, "openat", []uint64{0, 0, unix.O_RDWR | unix.O_CREAT, 0o4755}, false},
		{all, "openat", []uint64{0, 0, unix.O_WRONLY | unix.O_CREAT, 0o2755}, false},
		{all, "openat", []uint64{0, 0, unix.O_RDWR | unix.O_TMPFILE, 0o4755}, false},
		{all, "openat", []uint64{0, 0, unix.O_RDWR, 0o4755}, true}, // nothing is made: nobody looks at it
		{all, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 0}, true},
		{all, "socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK,
			unix.IPPROTO_TCP}, true},
		{all, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, false},
		{all, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}, false},
		{all, "socket", []uint64{unix.AF_INET, unix.SOCK_DGRAM, 0}, false},
		{all, "socket", []uint64{unix.AF_INET, unix.SOCK_RAW, 0}, false},
		{all, "socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, false},
		{all, "socket", []uint64{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, false},
		{all, "sendto", []uint64{3, 0x1000, 1, unix.MSG_NOSIGNAL, 0, 0}, true},
		{all, "sendto", []uint64{3, 0x1000, 1, unix.MSG_FASTOPEN, 0, 0}, false},
		{all, "sendto", []uint64{3, 0x1000, 1, 0, 0x2000, 16}, false},
		{all, "sendto", []uint64{3, 0x1000, 1, 0, high, 16}, false},
		{all, "sendmsg", []uint64{3, 0x1000, unix.MSG_NOSIGNAL}, true},
		{all, "sendmsg", []uint64{3, 0x1000, unix.MSG_FASTOPEN | unix.MSG_NOSIGNAL}, false},
		{all, "mmap", []uint64{0, 4096, unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}, true},
		{all, "mmap", []uint64{0, 4096, unix.PROT_WRITE, unix.MAP_SHARED}, true},
		{all, "mmap", []uint64{0, 4096, unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_ANONYMOUS}, false},
		{all, "mmap", []uint64{0, 4096, unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_GROWSDOWN},
			false},
		{zero, "mmap", []uint64{0, 4096, unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_ANONYMOUS}, true},
		{zero, "timer_delete", []uint64{ownTimer}, false},
		{zero, "timer_delete", []uint64{ownTimer | high}, false},
		{zero, "timer_delete", []uint64{ownTimer + 1}, true},
		{zero, "timer_settime", []uint64{ownTimer}, false},
		{zero, "timer_settime", []uint64{ownTimer | high<<5}, false},
		{all, "timer_delete", []uint64{ownTimer}, true},
	} {
		assert.Equal(t, c.want, c.in.allows(c.name, c.args...), "%s%v", c.name, c.args)
	}
	for _, name := range []string{"vfork", "fork", "execve", "wait4", "socket", "connect", "mkdirat", "ftruncate"} {
		if _, ok := zero.table.SyscallNames[name]; ok {
			assert.False(t, zero.allows(name), name)
			assert.True(t, all.allows(name, unix.AF_INET, unix.SOCK_STREAM), name)
		}
	}
	assert.False(t, compile(t, policies["connect"], -1, true).allows("bind"))
	assert.False(t, compile(t, policies["connect"], -1, true).allows("listen"))
	assert.False(t, compile(t, policies["listen"], -1, true).allows("connect"))
}

// What a launcher does last is done by who knows its word, all of it, and by nobody else. Other calls are as they are without a launcher.
func TestFilterOfLauncher(t *testing.T) {
	const word = uint64(0x8765_4321_0fed_cba9)
	for name, p := range policies {
		c, bare := compileFor(t, p, -1, true, &successor{word: word}), compile(t, p, -1, true)
		assert.True(t, c.allows("execveat", 7, 0x1000, 0x2000, 0x3000, unix.AT_EMPTY_PATH, word), name)
		assert.True(t, c.allows("prlimit64", 0, unix.RLIMIT_DATA, 0x1000, 0, 0, word), name)
		assert.True(t, c.allows("prlimit64", 0, unix.RLIMIT_DATA, 0, 0x1000), name)
		for bit := range 64 {
			other := word ^ 1<<bit
			assert.False(t, c.allows("execveat", 7, 0x1000, 0x2000, 0x3000, unix.AT_EMPTY_PATH, other), "%s: %x", name, other)
			assert.False(t, c.allows("prlimit64", 0, unix.RLIMIT_DATA, 0x1000, 0, 0, other), "%s: %x", name, other)
		}
		assert.False(t, c.allows("execveat", 7, 0x1000, 0x2000, 0x3000, word), "the word in another argument")
		for call, nr := range c.table.SyscallNames {
			if call != "execveat" {
				assert.Equal(t, bare.errno(uint32(c.table.ID), uint32(nr)), c.errno(uint32(c.table.ID), uint32(nr)), "%s: %s", name, call)
			}
		}
		assert.False(t, bare.allows("execveat", 7, 0x1000, 0x2000, 0x3000, unix.AT_EMPTY_PATH, word), "%s: without a launcher", name)
	}
}

// An argument that is the number of another call, which is allowed, makes no difference.
func TestArgumentsAreNotTakenForNumbers(t *testing.T) {
	c := compile(t, Policy{}, ownTimer, true)
	random := rand.New(rand.NewPCG(1, 2))
	var numbers []uint64
	for _, name := range allowed(&Policy{}, nil) {
		if nr, ok := c.table.SyscallNames[name]; ok {
			numbers = append(numbers, uint64(nr), uint64(nr)<<32, uint64(nr)<<32|uint64(nr))
		}
	}
	for name, refused := range map[string]func(args []uint64) bool{
		"kill":              func(args []uint64) bool { return args[0] != ownPID },
		"tgkill":            func(args []uint64) bool { return args[0] != ownPID },
		"rt_sigqueueinfo":   func(args []uint64) bool { return args[0] != ownPID },
		"sched_setaffinity": func(args []uint64) bool { return args[0] != 0 },
		"prlimit64":         func(args []uint64) bool { return args[0] != 0 && args[0] != ownPID || args[2] != 0 },
		"openat":            func(args []uint64) bool { return args[2]&(unix.O_ACCMODE|unix.O_CREAT|unix.O_TRUNC) != 0 },
		"clone":             func(args []uint64) bool { return args[0]&unix.CLONE_THREAD == 0 },
	} {
		for range 20_000 {
			args := make([]uint64, 6)
			for i := range args {
				args[i] = numbers[random.IntN(len(numbers))]
			}
			if refused(args) && c.allows(name, args...) {
				t.Fatalf("%s%v is allowed", name, args)
			}
		}
	}
}
