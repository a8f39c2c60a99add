package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// dir returns a folder that every user can change, with a file "secret" in it.
func dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sandbox")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o666))
	require.NoError(t, os.Chmod(filepath.Join(dir, "secret"), 0o666))
	return dir
}

// listener answers each byte that it gets, and returns its port.
func listener(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var b [1]byte
				if n, _ := c.Read(b[:]); n == 1 {
					_, _ = c.Write(b[:])
				}
			}()
		}
	}()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// free returns a port on which nobody listens.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// sys is the input of the function syscall.
func sys(nr int, args ...int) string {
	return strings.Trim(fmt.Sprint(append([]int{nr}, args...)), "[]")
}

func port(t testing.TB, text string) []uint16 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 16)
	require.NoError(t, err)
	return []uint16{uint16(n)}
}

// everything is one attempt of each kind, with what the zero Policy answers to it. Without a sandbox all succeed.
func everything(t testing.TB, folder string) []try {
	t.Helper()
	secret, port, host := filepath.Join(folder, "secret"), listener(t), strconv.Itoa(os.Getpid())
	memory := fmt.Sprintf("/proc/self/fd/%d", memoryFile)
	return []try{
		{"read_file", secret, denied},
		{"read_file", "/etc/passwd", denied},
		{"read_file", "/proc/self/maps", denied},
		{"list_folder", folder, denied},
		{"list_folder", "/", denied},
		{"list_folder", "/usr/lib", denied},
		{"list_folder", "/proc/" + host + "/fd", denied},
		{"write_file", filepath.Join(folder, "new"), forbidden},
		{"write_file", secret, forbidden},
		{"write_file", memory, forbidden},
		{"open_for_writing", memory, forbidden},
		{"change_folder", folder, forbidden},
		{"change_mode", secret, forbidden},
		{"resize", sys(memoryFile, 0), forbidden},
		{"resize", sys(memoryFile, 2<<20), forbidden},
		{"connect", port, forbidden},
		{"connect_by_sending", port, forbidden},
		{"listen", free(t), forbidden},
		{"listen_unbound", "", forbidden},
		{"socket", sys(unix.AF_UNIX, unix.SOCK_STREAM, 0), forbidden},
		{"socket", sys(unix.AF_INET, unix.SOCK_DGRAM, 0), forbidden},
		{"socket", sys(unix.AF_NETLINK, unix.SOCK_RAW, 0), forbidden},
		{"fork", "", forbidden},
		{"clone", "0", forbidden},
		{"start", "", forbidden},
		{"ptrace", host, forbidden},
		{"kill", host + " 0", forbidden},
		{"kill", "0 0", forbidden},
		{"kill_thread", host + " 0", forbidden},
		{"kill_task", host + " 0", forbidden},
		{"kill_queue", host + " 0", forbidden},
		{"kill_by_owner", host + " 18", forbidden},
		{"open_memory", host, denied},
		{"limit_other", host, forbidden},
		{"pin_other", host, forbidden},
		{"unshare", sys(unix.CLONE_FS), forbidden},
		{"outlive", "", forbidden},
		{"raise_limit", "", forbidden},
		{"leave_session", "", forbidden},
		{"descriptors", "1000", "Too many open files"},
	}
}

func TestEverythingSucceedsWithoutSandbox(t *testing.T) {
	tries := everything(t, dir(t))
	for i := range tries {
		tries[i].answer = ok
	}
	expect(t, job{Bare: true}, tries...)
}

func TestZeroPolicyRefusesEverything(t *testing.T) {
	folder := dir(t)
	expect(t, job{Threads: 8}, everything(t, folder)...)
	found, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, found, 1, "what there was")
	secret, err := os.ReadFile(filepath.Join(folder, "secret"))
	require.NoError(t, err)
	assert.Equal(t, "secret", string(secret))
}

func TestZeroPolicyForUserWithoutRights(t *testing.T) {
	expect(t, job{Threads: 3, uid: nobody(t)}, everything(t, dir(t))...)
}

// Each layer refuses by itself what is its to refuse.
func TestLayersByThemselves(t *testing.T) {
	secret, port, host := filepath.Join(dir(t), "secret"), listener(t), strconv.Itoa(os.Getpid())
	effort, none := Policy{BestEffort: true}, 0
	landlockOnly := []try{
		{"read_file", secret, denied},
		{"open_memory", host, denied},
		{"connect", port, denied},
		{"write_file", secret, denied},
		{"fork", "", ok},
	}
	if abi, _ := landlockABI(); abi >= landlockScopes {
		landlockOnly = append(landlockOnly, try{"kill", host + " 0", forbidden})
	}
	expect(t, job{NoSeccomp: true, Threads: 4, Policy: effort}, landlockOnly...)
	expect(t, job{ABI: &none, Threads: 4, Policy: effort}, []try{
		{"read_file", secret, ok},
		{"open_memory", host, ok},
		{"connect", port, forbidden},
		{"write_file", secret, forbidden},
		{"fork", "", forbidden},
		{"kill", host + " 0", forbidden},
	}...)
}

func TestSystemCallsThatAreRefused(t *testing.T) {
	var tries []try
	for _, nr := range []int{unix.SYS_MEMFD_CREATE, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_SETNS, unix.SYS_BPF,
		unix.SYS_PERF_EVENT_OPEN, unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_IO_URING_SETUP, unix.SYS_USERFAULTFD,
		unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_INIT_MODULE, unix.SYS_PERSONALITY, unix.SYS_PROCESS_VM_READV,
		unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_OPEN, unix.SYS_SECCOMP, unix.SYS_LANDLOCK_RESTRICT_SELF,
		unix.SYS_CHROOT, unix.SYS_EXECVEAT, unix.SYS_SHMGET, unix.SYS_MQ_OPEN, unix.SYS_INOTIFY_INIT1,
		unix.SYS_FALLOCATE, unix.SYS_SOCKETPAIR, unix.SYS_SETUID, unix.SYS_SYSLOG, unix.SYS_UNSHARE,
		unix.SYS_SCHED_SETSCHEDULER, unix.SYS_SETPRIORITY, unix.SYS_CHDIR, unix.SYS_UTIMENSAT, unix.SYS_TRUNCATE,
		9999} {
		tries = append(tries, try{"syscall", sys(nr, -1, -1, -1, -1), forbidden})
	}
	const thread = unix.CLONE_THREAD | unix.CLONE_VM | unix.CLONE_SIGHAND
	expect(t, job{}, append(tries,
		try{"syscall", sys(unix.SYS_CLONE, thread|unix.CLONE_NEWNET, 0), forbidden},
		try{"syscall", sys(unix.SYS_CLONE3, 0, 0), "Function not implemented"},
		try{"syscall", sys(unix.SYS_OPENAT2, -1, 0, 0, 0), "Function not implemented"})...)
}

func TestOtherConventionsOfTheProcessor(t *testing.T) {
	const getpid32, x32 = 20, 0x40000000
	if o := calls(t, job{Bare: true}, call{"syscall_32", sys(getpid32)}); o.calls[0].Err != "" {
		t.Skip("this processor or kernel has no system calls of 32-bit programs")
	}
	expect(t, job{}, try{"syscall_32", sys(getpid32), forbidden},
		try{"syscall", sys(x32 + unix.SYS_GETPID), "Function not implemented"})
}

func TestExecuting(t *testing.T) {
	o := calls(t, job{Bare: true}, call{"exec", ""}, call{"burn", "1"})
	assert.Empty(t, o.calls, "another program is in its place")
	assert.True(t, o.state.Success())
	expect(t, job{}, try{"exec", "", forbidden}, try{"burn", "1", ok})
}

func TestRead(t *testing.T) {
	granted, other := dir(t), dir(t)
	inside, outside := filepath.Join(granted, "secret"), filepath.Join(other, "secret")
	link := filepath.Join(granted, "link")
	require.NoError(t, os.Symlink(outside, link))
	expect(t, job{Policy: Policy{Read: []string{granted}}}, []try{
		{"read_file", inside, ok},
		{"list_folder", granted, ok},
		{"read_file", outside, denied},
		{"read_file", link, denied},
		{"list_folder", other, denied},
		{"write_file", filepath.Join(granted, "new"), forbidden},
		{"open_for_writing", inside, forbidden},
		{"change_mode", inside, forbidden},
		{"exec", "", forbidden},
	}...)
	expect(t, job{Policy: Policy{Read: []string{outside}}},
		try{"read_file", outside, ok}, try{"list_folder", other, denied})
}

func TestWrite(t *testing.T) {
	granted, other := dir(t), dir(t)
	tries := []try{
		{"write_file", filepath.Join(granted, "new"), ok},
		{"change_folder", granted, ok},
		{"read_file", filepath.Join(granted, "secret"), ok},
		{"list_folder", granted, ok},
		{"write_file", filepath.Join(other, "new"), denied},
		{"change_folder", other, denied},
		{"write_file", filepath.Join(other, "secret"), denied},
		{"change_mode", filepath.Join(granted, "secret"), forbidden},
		{"make_privileged", filepath.Join(granted, "privileged"), forbidden},
		{"connect", listener(t), forbidden},
		{"fork", "", forbidden},
	}
	users := []int{0}
	if os.Getuid() == 0 {
		users = append(users, nobody(t))
	}
	for _, uid := range users {
		expect(t, job{Policy: Policy{Write: []string{granted}}, uid: uid}, tries...)
		written, err := os.ReadFile(filepath.Join(granted, "new"))
		require.NoError(t, err)
		assert.Equal(t, "written", string(written))
		require.NoError(t, os.Remove(filepath.Join(granted, "new")))
	}
	file := filepath.Join(other, "secret")
	expect(t, job{Policy: Policy{Write: []string{file}}}, try{"write_file", file, ok}, try{"read_file", file, ok},
		try{"write_file", filepath.Join(other, "new"), denied})
}

func TestConnect(t *testing.T) {
	granted, other := listener(t), listener(t)
	expect(t, job{Threads: 3, Policy: Policy{Connect: port(t, granted)}}, []try{
		{"connect", granted, ok},
		{"talk", granted, ok},
		{"connect", other, denied},
		{"connect_by_sending", other, forbidden},
		{"connect_by_message", other, forbidden},
		{"connect_multipath", other, forbidden},
		{"listen", free(t), forbidden},
		{"listen_unbound", "", forbidden},
		{"socket", sys(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP), ok},
		{"socket", sys(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP), forbidden},
		{"socket", sys(unix.AF_INET, unix.SOCK_DGRAM, 0), forbidden},
		{"socket", sys(unix.AF_INET, unix.SOCK_RAW, 0), forbidden},
		{"socket", sys(unix.AF_UNIX, unix.SOCK_STREAM, 0), forbidden},
	}...)
	expect(t, job{Bare: true}, try{"connect_by_sending", other, ok}, try{"connect_by_message", other, ok})
}

func TestListen(t *testing.T) {
	granted := free(t)
	expect(t, job{Policy: Policy{Listen: port(t, granted)}}, []try{
		{"listen", granted, ok},
		{"listen", free(t), denied},
		{"listen", "0", denied},
		{"listen_unbound", "", ok}, // as README.md says
		{"connect", listener(t), forbidden},
	}...)
	expect(t, job{Policy: Policy{Listen: []uint16{0}}}, try{"listen", "0", ok}, try{"listen", granted, denied})
}

func TestMemory(t *testing.T) {
	const exhausted = "Cannot allocate memory"
	mapping := func(length, flags, fd int) string {
		return sys(unix.SYS_MMAP, 0, length, unix.PROT_READ|unix.PROT_WRITE, flags, fd, 0)
	}
	const anonymous = unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	tries := []try{
		{"allocate", sys(100 << 20), ok},
		{"allocate", sys(512 << 20), exhausted},
		{"allocate", sys(100 << 20), ok},
		{"syscall", mapping(512<<20, unix.MAP_PRIVATE|anonymous, -1), exhausted},
		{"syscall", mapping(512<<20, unix.MAP_SHARED|anonymous, -1), forbidden},
		{"syscall", mapping(512<<20, unix.MAP_PRIVATE|unix.MAP_GROWSDOWN|anonymous, -1), forbidden},
		{"syscall", mapping(1<<20, unix.MAP_SHARED, memoryFile), ok},
	}
	expect(t, job{Policy: Policy{Memory: 256 << 20}}, tries...)
	for i := range tries {
		tries[i].answer = ok
	}
	expect(t, job{}, tries...)
}

// What README.md says of Policy.Memory: with 64 MiB a worker starts threads, collects garbage, and goes on after memory
// ran out.
func TestLittleMemory(t *testing.T) {
	expect(t, job{Policy: Policy{Memory: 64 << 20}, Busy: true}, []try{
		{"allocate", sys(8 << 20), ok},
		{"allocate", sys(1 << 30), "Cannot allocate memory"},
		{"threads", "2", ok},
		{"allocate", sys(8 << 20), ok},
	}...)
}

func TestCPU(t *testing.T) {
	j := job{Policy: Policy{CPU: 1}}
	o := calls(t, j, call{"burn", "100"}, call{"burn", "10000"})
	assert.Len(t, o.calls, 1)
	assert.Equal(t, syscall.SIGXCPU, o.signal(), o.state)
	o = calls(t, j, call{"ignore", sys(int(unix.SIGXCPU))}, call{"burn", "100"}, call{"burn", "10000"})
	assert.Len(t, o.calls, 2)
	assert.Equal(t, syscall.SIGKILL, o.signal(), o.state)
}

func TestTime(t *testing.T) {
	start := time.Now()
	o := calls(t, job{Policy: Policy{Time: 1500 * time.Millisecond}}, // its timer is the first, number 0
		call{"syscall", sys(unix.SYS_TIMER_DELETE, 0)},
		call{"syscall", sys(unix.SYS_TIMER_DELETE) + " 0x100000000"},
		call{"syscall", sys(unix.SYS_TIMER_SETTIME, 0, 0, 0, 0)},
		call{"syscall", sys(unix.SYS_TIMER_DELETE, 1)},
		call{"sleep", "20000"})
	assert.Equal(t, syscall.SIGKILL, o.signal(), o.state)
	assert.WithinRange(t, time.Now(), start.Add(1500*time.Millisecond), start.Add(15*time.Second))
	require.Len(t, o.calls, 4)
	for i, want := range []string{forbidden, forbidden, forbidden, "Invalid argument"} {
		assert.Contains(t, o.calls[i].Err, want)
	}
}

func TestSharedMemoryDoesNotGrow(t *testing.T) {
	o := calls(t, job{}, call{"syscall", sys(unix.SYS_PWRITE64, memoryFile, 0, 1, 1<<20)})
	assert.Equal(t, syscall.SIGXFSZ, o.signal(), o.state)
	o = calls(t, job{NoSeccomp: true, Policy: Policy{BestEffort: true}}, call{"resize", sys(memoryFile, 2<<20)})
	assert.Equal(t, syscall.SIGXFSZ, o.signal(), o.state)
}

func TestFiles(t *testing.T) {
	expect(t, job{}, try{"descriptors", "60", ok}, try{"descriptors", "65", "Too many open files"})
	expect(t, job{Policy: Policy{Files: 100}},
		try{"descriptors", "95", ok}, try{"descriptors", "101", "Too many open files"})
}

func TestProcesses(t *testing.T) {
	j := job{Policy: Policy{Processes: 4, Read: []string{"/bin/true"}}, uid: nobody(t)}
	expect(t, j, []try{
		{"fork", "", ok},
		{"start", "", ok},
		{"start_many", "3", ok},
		{"start_many", "200", "Resource temporarily unavailable"},
		{"threads", "10", ok},
		{"clone", sys(unix.CLONE_NEWUSER), forbidden},
		{"kill", sys(os.Getpid(), 0), forbidden},
		{"leave_session", "", forbidden},
	}...)
	assert.Equal(t, "exited with 0", calls(t, j, call{"start", ""}).calls[0].Out)
	j.Policy.Read = nil
	assert.Equal(t, fmt.Sprintf("exited with %d", int(unix.EACCES)), calls(t, j, call{"start", ""}).calls[0].Out,
		"a program that it may not read")
}

func TestProcessesOfRootAreNotCounted(t *testing.T) {
	if os.Getuid() != 0 || uncountedUser() == "" {
		t.Skip("for root")
	}
	j := job{Policy: Policy{Processes: 4}}
	assert.Contains(t, calls(t, j).first.Err, "rlimit processes (the worker runs as root, for whom the system does not "+
		"count processes), expected all the layers that the policy needs. Run as another user, or do without Policy.Processes, or set ")
	j.Policy.BestEffort = true
	layers := calls(t, j).first.Layers
	assert.NotContains(t, layers, "rlimit processes")
	assert.Contains(t, layers, "seccomp")
	expect(t, j, try{"fork", "", ok})
}

// Plug-ins that compute do not notice.
func TestPluginsThatCompute(t *testing.T) {
	j := job{Busy: true, Threads: 4, Library: fixture.C(t, "echo"),
		Calls: []call{{"echo", "hello"}, {"echo_own", "owned"}, {"fail", "no"}, {"held", ""}}}
	want := []answer{{Out: "hello"}, {Out: "owned"}, {Err: "plug-in echo: fail: failed: no"}, {Out: "0"}}
	for _, j.Bare = range []bool{true, false} {
		for _, j.InMemory = range []bool{false, true} {
			assert.Equal(t, want, run(t, j).calls, j)
		}
	}
	if os.Getuid() == 0 {
		j.uid = nobody(t)
		assert.Equal(t, want, run(t, j).calls, j)
	}
	o := calls(t, job{Busy: true}, call{"threads", "64"}, call{"allocate", "1000000000"}, call{"burn", "50"})
	assert.Equal(t, []answer{{Out: "64, 0 failed"}, {Out: "allocated"}, {Out: "burnt"}}, o.calls)
}

func TestPluginsInRust(t *testing.T) {
	o := run(t, job{Busy: true, Threads: 2, Library: fixture.Rust(t, "fixture-json"), Calls: []call{
		{"before_checkout", `{"customer":"ada","total":120}`},
		{"before_checkout", `{"customer":"ada","total":0}`},
		{"before_checkout", `{`},
	}})
	require.Len(t, o.calls, 3, o.stderr)
	assert.Equal(t, `{"customer":"ada","percent":20}`, o.calls[0].Out)
	assert.Contains(t, o.calls[1].Err, "found an empty cart, expected at least one item")
	assert.NotEmpty(t, o.calls[2].Err)
}

func TestLayersAreReported(t *testing.T) {
	file := filepath.Join(dir(t), "secret")
	layers := func(p Policy) string {
		text := strings.Join(calls(t, job{Policy: p}).first.Layers, ", ")
		return regexp.MustCompile(` v\d+:`).ReplaceAllString(text, ":")
	}
	abi, why := landlockABI()
	require.Empty(t, why)
	landlock := ", landlock: files"
	if abi >= landlockTCP {
		landlock += ", landlock: tcp"
	}
	if abi >= landlockScopes {
		landlock += ", landlock: signals"
	}
	assert.Equal(t, "no-new-privs, rlimit file size, no core dumps"+landlock+", rlimit files, rlimit signals, seccomp", layers(Policy{}))
	all := Policy{Memory: 1 << 30, CPU: time.Minute, Time: time.Minute, Write: []string{file}}
	assert.Equal(t, "no-new-privs, rlimit memory, rlimit cpu, no core dumps"+landlock+", rlimit files, wall time, "+
		"rlimit signals, seccomp", layers(all))
}

func TestMissingLayers(t *testing.T) {
	none, old := 0, 3
	ports, effort := Policy{Connect: []uint16{80}}, Policy{BestEffort: true}
	for want, j := range map[string]job{
		"landlock: files (not in this test)":                                             {ABI: &none},
		"seccomp (not in this test)":                                                     {NoSeccomp: true},
		"landlock: files (not in this test), nor seccomp (not in this test)":             {ABI: &none, NoSeccomp: true},
		"landlock: tcp (the kernel's Landlock v3 has no rules for ports, Linux 6.7 has)": {ABI: &old, Policy: ports},
	} {
		assert.Equal(t, "found a system without "+want+", expected all the layers that the policy needs. "+
			"Give the system what it lacks, or set Policy.BestEffort to open the plug-in without.", calls(t, j).first.Err)
	}
	ports.BestEffort = true
	for _, c := range []struct {
		job
		layers string
	}{
		{job{ABI: &none, Policy: effort}, "no-new-privs, rlimit file size, no core dumps, rlimit files, rlimit signals, seccomp"},
		{job{ABI: &none, NoSeccomp: true, Policy: effort}, "rlimit file size, no core dumps, rlimit files, rlimit signals"},
		// Without ports the network is seccomp's to refuse, and nothing is missing.
		{job{ABI: &old}, "no-new-privs, rlimit file size, no core dumps, landlock v3: files, rlimit files, rlimit signals, seccomp"},
		{job{ABI: &old, Policy: ports},
			"no-new-privs, rlimit file size, no core dumps, landlock v3: files, rlimit files, rlimit signals, seccomp"},
	} {
		o := calls(t, c.job)
		assert.Empty(t, o.first.Err)
		assert.Equal(t, c.layers, strings.Join(o.first.Layers, ", "))
	}
	assert.NotContains(t, calls(t, job{NoSeccomp: true, Policy: effort}).first.Layers, "seccomp")
	expect(t, job{ABI: &old, Policy: ports}, try{"connect", listener(t), ok}) // any port, as README.md says
}

// On each older version of Landlock what it has is used.
func TestOlderVersionsOfLandlock(t *testing.T) {
	granted, other := dir(t), dir(t)
	now, _ := landlockABI()
	for abi := 1; abi <= now; abi++ {
		change := ok
		if abi == 1 {
			change = "Invalid cross-device link" // before version 2 nothing is renamed from folder to folder
		}
		expect(t, job{ABI: &abi, Policy: Policy{Write: []string{granted}}}, []try{
			{"read_file", filepath.Join(other, "secret"), denied},
			{"write_file", filepath.Join(other, "secret"), denied},
			{"change_folder", granted, change},
		}...)
		require.NoError(t, os.RemoveAll(filepath.Join(granted, "folder")))
	}
}

func TestPathThatIsNotThere(t *testing.T) {
	missing := filepath.Join(dir(t), "missing")
	for want, p := range map[string]Policy{
		"found Policy.Read with %q: no such file or directory, expected files and folders that the worker can see. " +
			"Leave out what is not there.": {Read: []string{missing}},
		"found Policy.Write with %q: no such file or directory, expected files and folders that the worker can see. " +
			"Make it before the plug-in is opened.": {Write: []string{missing}, BestEffort: true},
	} {
		assert.Contains(t, calls(t, job{Policy: p}).first.Err, fmt.Sprintf(want, missing))
	}
}

// It leaves no dump, also where dumps are piped to a program, which the limit does not count.
func TestNoCoreDump(t *testing.T) {
	o := calls(t, job{}, call{"syscall", sys(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE)})
	assert.Equal(t, []answer{{Out: "0"}}, o.calls)
}

func TestConfigOfAnotherVersion(t *testing.T) {
	layers, err := apply([]byte(`{"read":["/"],"telepathy":true}`), nil)
	assert.ErrorContains(t, err, "telepathy")
	assert.Empty(t, layers)
}

// What may only be read may not be locked, which would keep others from writing it; and no symbolic link is made, which the
// host might follow to where the plug-in may not.
func TestLocksAndLinks(t *testing.T) {
	read, write := dir(t), dir(t)
	secret, link := filepath.Join(read, "secret"), filepath.Join(write, "link")
	locks := func(answer string) []try {
		return []try{{"lock_whole_file", secret, answer}, {"lock_of_process", secret, answer}, {"lock_of_description", secret, answer}}
	}
	expect(t, job{Bare: true}, append(locks(ok), try{"link_to_elsewhere", link, ok})...)
	require.NoError(t, os.Remove(link))
	expect(t, job{Policy: Policy{Read: []string{read}}}, locks(forbidden)...)
	expect(t, job{Policy: Policy{Read: []string{read}, Write: []string{write}}}, append(locks(ok), try{"link_to_elsewhere", link, forbidden})...)
	_, err := os.Lstat(link)
	assert.ErrorIs(t, err, os.ErrNotExist)
}
