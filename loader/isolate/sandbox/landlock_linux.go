package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"

	"github.com/ferrule-dev/ferrule/loader/internal/count"
	"github.com/ferrule-dev/ferrule/loader/internal/isolate/wire"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox/internal/threads"
)

// From which version on Landlock has what.
const (
	landlockTCP         = 4 // rules for TCP ports, Linux 6.7
	landlockScopes      = 6 // no signals to processes outside, Linux 6.12
	landlockThreadsSync = 8 // one call for all threads, Linux 7.0
)

// configs is what each version can refuse; all of it is.
var configs = []landlock.Config{{}, landlock.V1, landlock.V2, landlock.V3, landlock.V4, landlock.V5, landlock.V6,
	landlock.V7, landlock.V8, landlock.V9, landlock.V10, landlock.V11}

// landlockABI returns the version of Landlock that this process can use, or why there is none.
func landlockABI() (abi int, why string) {
	version, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch e {
	case 0:
	case unix.ENOSYS:
		return 0, "the kernel has no Landlock, Linux 5.13 has"
	case unix.EOPNOTSUPP:
		return 0, "the kernel's Landlock is off; the boot parameter lsm= must name landlock"
	default:
		return 0, fmt.Sprintf("the kernel answers %v; does a container's seccomp profile refuse it?", e)
	}
	abi = min(int(version), len(configs)-1)
	if abi >= landlockScopes {
		// Before the second erratum was mended a thread could not signal the others of its process.
		errata, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
		if e != 0 || errata&2 == 0 {
			abi = landlockScopes - 1
		}
	}
	if abi < landlockThreadsSync && !haveCgo && !threads.Supported {
		return 0, fmt.Sprintf("the kernel's Landlock v%d is for one thread; build with cgo, or use Linux 7.0", abi)
	}
	return abi, ""
}

// The rights on files, as sets of what Landlock knows.
const (
	mayList   = unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayRead   = unix.LANDLOCK_ACCESS_FS_READ_FILE
	mayRun    = unix.LANDLOCK_ACCESS_FS_EXECUTE
	mayChange = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR
	ofFiles = mayRead | mayRun | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// grant is the right to do something with a file, or with all that is beneath a folder.
type grant struct {
	path   string
	rights landlock.AccessFSSet
	file   int // a descriptor of it, open until the rules are made; -1 where what is at the path then will do
}

// grants returns what the policy and the libraries come to. All of it exists. The caller closes the descriptors, also after an
// error. launched is as with take.
func grants(abi int, c *config, libraries []wire.Library, launched *successor) ([]grant, error) {
	var runs, lists landlock.AccessFSSet
	if c.Processes > 0 {
		runs = mayRun
	}
	if launched != nil { // interpreters list the folders of their libraries
		lists = mayList
	}
	handled := configs[abi].HandledAccessFS
	var all []grant
	add := func(path string, rights landlock.AccessFSSet) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			rights &= ofFiles
		}
		all = append(all, grant{path, rights & handled, -1})
		return nil
	}
	for _, pattern := range systemFiles {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return all, err
		}
		for _, path := range paths {
			_ = add(path, mayRead|runs|lists) // what cannot be looked at is not for the plug-in either
		}
	}
	for _, l := range libraries {
		path := string(l.Path)
		switch {
		case l.Inode != 0:
			fd, err := open(l)
			if err != nil {
				return all, err
			}
			rights := mayRead | runs
			if isFolder(fd) {
				rights |= lists
			}
			all = append(all, grant{path, rights & handled, fd})
		case !strings.HasPrefix(path, "/proc/self/fd/"): // Landlock knows no files in memory, and lets them through
			_ = add(path, mayRead|runs)
		}
	}
	if launched != nil {
		for _, l := range launched.Runs {
			fd, err := open(l)
			if err != nil {
				return all, err
			}
			all = append(all, grant{string(l.Path), (mayRead | mayRun) & handled, fd})
		}
		own, err := unix.FcntlInt(uintptr(launched.Program()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return all, err
		}
		all = append(all, grant{"", (mayRead | mayRun) & handled, own})
	}
	if len(c.Found) != len(c.Read)+len(c.Write) {
		return all, mistake(fmt.Sprintf("a policy with %s, of which the host has found %d", count.Of(len(c.Read)+len(c.Write), "path"), len(c.Found)),
			"all of them", "Build the worker's program (isolate.WithBinary) with the version of Ferrule that the host has")
	}
	for i, found := range c.Found {
		field, remedy, rights := "Read", readRemedy, landlock.AccessFSSet(mayRead|mayList)|runs
		var path string
		if i < len(c.Read) {
			path = c.Read[i]
		} else {
			path = c.Write[i-len(c.Read)]
			field, remedy, rights = "Write", writeRemedy, rights|mayChange
		}
		fd, err := openFound(found, field, path, remedy)
		if err != nil {
			return all, err
		}
		if !isFolder(fd) {
			rights &= ofFiles
		}
		all = append(all, grant{string(found.Path), rights & handled, fd})
	}
	return all, nil
}

// isFolder reports whether a descriptor is of a folder.
func isFolder(fd int) bool {
	var stat unix.Stat_t
	return unix.Fstat(fd, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR
}

// openFound opens what a path of the policy led to when the plug-in was opened. The plug-in may have renamed something else
// into its place since.
func openFound(found wire.Library, field, path, remedy string) (int, error) {
	if found.Inode == 0 {
		if !isOwn(path) {
			return -1, unusable(field, path, errors.New("the host has not found it"), remedy)
		}
		fd, err := openOwn(path)
		if err != nil {
			return -1, unusable(field, path, err, remedy)
		}
		return fd, nil
	}
	fd, what := openSame(found)
	if fd < 0 {
		return -1, mistake(fmt.Sprintf("Policy.%s with %q, and at %q: %s", field, path, found.Path, what),
			"the file or folder that was there when the plug-in was opened",
			"Close the plug-in and open it again, if it is yours that was replaced, and grant the folder of a file that is replaced now and then")
	}
	return fd, nil
}

// open opens the library that the host has found. What the plug-in is linked to is its own word, so that what lies at the
// path must not decide: it may have become a link to something else meanwhile.
func open(l wire.Library) (int, error) {
	fd, found := openSame(l)
	if fd < 0 {
		return -1, mistake(fmt.Sprintf("at %q, which the plug-in needs: %s", l.Path, found), "the file that was there when the plug-in was opened",
			"Close the plug-in and open it again")
	}
	return fd, nil
}

// openSame opens the file or folder that the host has found, or says what is there instead.
func openSame(l wire.Library) (fd int, found string) {
	var stat unix.Stat_t
	fd, err := unix.Open(string(l.Path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Fstat(fd, &stat)
	}
	found = "something else"
	switch {
	case err != nil:
		found = err.Error()
	case uint64(stat.Dev) == l.Device && stat.Ino == l.Inode:
		return fd, ""
	}
	if fd >= 0 {
		_ = unix.Close(fd)
	}
	return -1, found
}

// unusable is the error for a path of a policy that there can be no rule for.
func unusable(field, path string, err error, remedy string) error {
	var why *fs.PathError
	if errors.As(err, &why) {
		err = why.Err // its text repeats the path
	}
	return mistake(fmt.Sprintf("Policy.%s with %q: %v", field, path, err), "files and folders that the worker can see", remedy)
}

// applyLandlock closes the file system but for what is granted, the TCP ports but for those of the policy, and the ways
// to signal, or to trace, a process outside.
func applyLandlock(abi int, c *config, libraries []wire.Library, launched *successor) (layers []string, err error) {
	granted, err := grants(abi, c, libraries, launched)
	defer func() {
		for _, g := range granted {
			if g.file >= 0 {
				_ = unix.Close(g.file)
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	layers = []string{fmt.Sprintf("landlock v%d: files", abi)}
	connect, listen := c.Connect, c.Listen
	if abi < landlockTCP {
		connect, listen = nil, nil
	} else {
		layers = append(layers, fmt.Sprintf("landlock v%d: tcp", abi))
	}
	if abi >= landlockScopes {
		layers = append(layers, fmt.Sprintf("landlock v%d: signals", abi))
	}
	named := wire.LayerLibrary
	if launched != nil { // a script, and what runs it, beside libraries
		named = "reads "
	}
	for _, l := range libraries {
		if l.Inode != 0 {
			layers = append(layers, named+string(l.Path))
		}
	}
	if haveCgo || abi >= landlockThreadsSync {
		return layers, restrict(configs[abi], granted, connect, listen)
	}
	return layers, restrictThreads(configs[abi], granted, connect, listen)
}

// restrict does it by the library: on all threads by the kernel itself, or by libpsx, which is C.
func restrict(config landlock.Config, granted []grant, connect, listen []uint16) error {
	var rules []landlock.Rule
	for _, g := range granted {
		path := g.path
		if g.file >= 0 {
			path = fmt.Sprintf("/proc/self/fd/%d", g.file)
		}
		rules = append(rules, landlock.PathAccess(g.rights, path))
	}
	for _, port := range connect {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	for _, port := range listen {
		rules = append(rules, landlock.BindTCP(port))
	}
	return config.Restrict(rules...)
}

// restrictThreads does it where the library cannot: without cgo, on kernels that restrict one thread at a time. There
// the library uses syscall.AllThreadsSyscall, which answers ENOTSUP in every program with purego.
func restrictThreads(config landlock.Config, granted []grant, connect, listen []uint16) error {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: uint64(config.HandledAccessFS),
		Handled_access_net: uint64(config.HandledAccessNet), Scoped: uint64(config.Scoped)}
	// Sound, here and below, because the kernel copies the structures, and does not keep the pointers.
	ruleset, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)),
		unsafe.Sizeof(attr), 0)
	if e != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", e)
	}
	defer unix.Close(int(ruleset))
	addRule := func(kind uintptr, rule unsafe.Pointer) error {
		if _, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, ruleset, kind, uintptr(rule), 0, 0, 0); e != 0 {
			return fmt.Errorf("landlock_add_rule: %w", e)
		}
		return nil
	}
	for _, g := range granted {
		fd, err := g.file, error(nil)
		if fd < 0 {
			if fd, err = unix.Open(g.path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
				return fmt.Errorf("%s: %w", g.path, err)
			}
		}
		err = addRule(unix.LANDLOCK_RULE_PATH_BENEATH,
			unsafe.Pointer(&unix.LandlockPathBeneathAttr{Allowed_access: uint64(g.rights), Parent_fd: int32(fd)}))
		if fd != g.file {
			_ = unix.Close(fd)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", g.path, err)
		}
	}
	const rulePort = 2 // LANDLOCK_RULE_NET_PORT
	for _, open := range []struct {
		right uint64
		ports []uint16
	}{{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, connect}, {unix.LANDLOCK_ACCESS_NET_BIND_TCP, listen}} {
		for _, port := range open.ports {
			rule := struct{ rights, port uint64 }{open.right, uint64(port)}
			if err := addRule(rulePort, unsafe.Pointer(&rule)); err != nil {
				return fmt.Errorf("port %d: %w", port, err)
			}
		}
	}
	if err := threads.Syscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := threads.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0); err != nil {
		return fmt.Errorf("landlock_restrict_self: %w", err)
	}
	return nil
}
