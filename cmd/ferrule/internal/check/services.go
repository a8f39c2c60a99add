package check

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ebitengine/purego"

	"github.com/ferrule-dev/ferrule/abi"
)

// hostTable is a table of all services of this version.
func hostTable(k *kit) abi.Host {
	status := func(s abi.Status) uintptr { return uintptr(uint32(s)) }
	return abi.Host{
		Size: sizeHost,
		Call: purego.NewCallback(func(call, request uintptr) uintptr { return status(k.hostCall(call, request)) }),
		Log:  purego.NewCallback(func(call, level, text, n uintptr) uintptr { return status(k.hostLog(call, "log", text, n, 0, 0)) }),
		LogFields: purego.NewCallback(func(call, level, text, n, fields, size uintptr) uintptr {
			return status(k.hostLog(call, "log_fields", text, n, fields, size))
		}),
		Info:       purego.NewCallback(func(call, request uintptr) uintptr { return status(k.hostInfo(call, request)) }),
		Room:       purego.NewCallback(func(call, n uintptr) uintptr { return status(k.hostRoom(call, n)) }),
		Read:       purego.NewCallback(func(call, piece, n uintptr) uintptr { return status(k.hostRead(call, piece, n)) }),
		Write:      purego.NewCallback(func(call, piece, n uintptr) uintptr { return status(k.hostWrite(call, piece, n)) }),
		Next:       purego.NewCallback(func(call, request uintptr) uintptr { return status(k.hostNext(call, request)) }),
		Background: purego.NewCallback(func(call uintptr) uintptr { return k.hostBackground(call) }),
	}
}

// hostCall is host->call. It runs on any thread.
func (k *kit) hostCall(at, request uintptr) abi.Status {
	k.served.Add(1)
	defer func(begun time.Time) {
		took := int64(time.Since(begun))
		for longest := k.longest.Load(); took > longest && !k.longest.CompareAndSwap(longest, took); {
			longest = k.longest.Load()
		}
	}(time.Now())
	return k.reply(at, request, "call", true, func(f *frame, ordinal uint32, in []byte) (a reply, wrong *misuse) {
		switch imports, wants := int64(len(k.lib.Imports)), int64(len(k.lib.Wants)); {
		case k.wants == older && wants > 0 && int64(ordinal) >= imports:
			a.status = abi.StatusMisuse // what a host says that knows no wants
		case int64(ordinal) >= imports+wants:
			return a, &misuse{rule: "R5", seen: fmt.Sprintf("the ordinal %d, of %s", ordinal, plural(int(imports+wants), "import")),
				expected: "the value of an import slot", mend: "Pass FERRULE_ORDINAL(name)"}
		case int64(ordinal) >= imports && k.wants != offered:
			a.status = k.excuse(f, abi.StatusUnsupported)
		default:
			a.status, a.out = k.serve(ordinal, in)
		}
		return a, nil
	})
}

// hostInfo is host->info. It runs on any thread.
func (k *kit) hostInfo(at, request uintptr) abi.Status {
	return k.reply(at, request, "info", true, func(f *frame, _ uint32, key []byte) (a reply, wrong *misuse) {
		if n := len(key); n == 0 || n > 256 || !utf8.Valid(key) {
			return a, &misuse{rule: "R26", warning: true, seen: fmt.Sprintf("host->info with the key %.80q", key), expected: "UTF-8 of 1 to 256 bytes", mend: "Pass the name of a key"}
		}
		named := func(name string) func(abi.Symbol) bool { return func(s abi.Symbol) bool { return s.Name == name } }
		switch name, offers := strings.CutPrefix(string(key), "offers."); {
		case k.answers != nil:
			if a.status, a.out = k.answers(string(key)); a.status != abi.StatusOK {
				k.excuse(f, a.status)
			}
		case offers && slices.ContainsFunc(k.lib.Imports, named(name)):
			a.out = []byte("yes")
		case offers && slices.ContainsFunc(k.lib.Wants, named(name)):
			a.out = []byte("no")
			if k.wants == offered {
				a.out = []byte("yes")
			}
		case string(key) == "path":
			a.out = []byte(filepath.Dir(k.Path))
		case string(key) == "instance":
			a.out = []byte("0")
		default:
			a.status = k.excuse(f, abi.StatusUnsupported)
		}
		return a, nil
	})
}

// reply answers a request, or gives out a result that is kept. A service that returns MISUSE writes nothing.
// between says that it may be used between calls, too.
func (k *kit) reply(at, request uintptr, service string, between bool, do func(f *frame, ordinal uint32, in []byte) (reply, *misuse)) abi.Status {
	f := k.service(at, service, between)
	if f == nil {
		return abi.StatusMisuse
	}
	r := nativeRequest(request)
	if r == nil {
		return k.misuse("R18", fmt.Sprintf("a ferrule_request at the address %#x", request), "the aligned address of one",
			"Pass a pointer to a ferrule_request")
	}
	if r.Size < sizeRequest {
		return k.misuse("R21", fmt.Sprintf("a ferrule_request whose size is %d", r.Size),
			fmt.Sprintf("sizeof(ferrule_request), %d", sizeRequest), "Set every member; memset the request to 0 first")
	}
	in, inLen, out, outCap, ordinal, number := r.In, r.InLen, r.Out, r.OutCap, r.Ordinal, r.Kept
	if number == 0 && !valid(in, inLen) || !valid(out, outCap) { // a kept result is fetched without an input
		return k.misuse("R18", "a ferrule_request with a NULL pointer and a length, or a length beyond the end of memory",
			"in and out that hold what their lengths say", "Set every member; memset the request to 0 first")
	}
	var a reply
	if number != 0 {
		k.mu.Lock()
		var ok bool
		a, ok = f.kept[number]
		if ok && uintptr(len(a.out)) <= outCap {
			delete(f.kept, number)
		}
		k.mu.Unlock()
		if !ok {
			return k.misuse("R18", fmt.Sprintf("a ferrule_request that fetches the result %d, which is not kept", number),
				"kept 0, or the number of a result that is", "Fetch a kept result once, with the request that got FERRULE_MORE")
		}
	} else {
		var wrong *misuse
		if a, wrong = do(f, ordinal, slices.Clone(view(in, inLen))); wrong != nil {
			if wrong.warning {
				k.warn(wrong.rule, wrong.seen, wrong.expected, wrong.mend)
				return abi.StatusMisuse
			}
			return k.misuse(wrong.rule, wrong.seen, wrong.expected, wrong.mend)
		}
	}
	r.OutLen = uintptr(len(a.out))
	if uintptr(len(a.out)) > outCap {
		if number == 0 {
			k.mu.Lock()
			if f.kept == nil {
				f.kept = map[uint32]reply{}
			}
			f.counter++
			number = f.counter
			f.kept[number] = a
			k.mu.Unlock()
		}
		r.Kept = number
		return abi.StatusMore
	}
	copy(view(out, outCap), a.out)
	r.Kept = 0
	return a.status
}

// hostLog is host->log and host->log_fields. It runs on any thread.
func (k *kit) hostLog(at uintptr, service string, text, n, fields, size uintptr) abi.Status {
	if k.service(at, service, true) == nil {
		return abi.StatusMisuse
	}
	if !valid(text, n) || !valid(fields, size) {
		return k.misuse("R18", "a log line, or fields, that are NULL, with a length, or that go beyond the end of memory", "the line's bytes",
			"Pass the text with its length")
	}
	if line := view(text, n); !utf8.Valid(line) {
		k.misuse("R18", fmt.Sprintf("the log line %.60q", line), "UTF-8", "Turn texts into UTF-8 before they are logged")
	}
	if b := view(fields, size); len(b) > 0 && b[len(b)-1] != 0 {
		k.misuse("R31", fmt.Sprintf("the log line's fields %.60q", b), "`key=value` texts, each closed by a NUL", "Count the last NUL, too, in fields_len")
	} else if len(b) > 0 {
		for field := range strings.SplitSeq(string(b[:len(b)-1]), "\x00") {
			if !utf8.ValidString(field) || strings.Index(field, "=") < 1 {
				k.warn("R31", fmt.Sprintf("the field %.60q of a log line", field), "`key=value` in UTF-8",
					"Give each field a key, and turn texts into UTF-8 before they are logged")
			}
		}
	}
	return abi.StatusOK
}

// mostRoom is the longest room that a call is given, in bytes.
const mostRoom = 64 << 20

// hostRoom is host->room: memory that ends where the room does. It runs on any thread.
func (k *kit) hostRoom(at, n uintptr) abi.Status {
	f := k.service(at, "room", false)
	if f == nil {
		return abi.StatusMisuse
	}
	if *member(at, offsetRelease) != 0 {
		return k.misuse("R25", "host->room with release set", "one way to give a result", "Set release, or ask for room")
	}
	if n > mostRoom || f.refuses {
		return k.excuse(f, abi.StatusNoMemory)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	room := k.findRoom(int(n))
	if room == nil {
		return abi.StatusNoMemory
	}
	from := (len(room) - int(n)) &^ 15
	out, outCap := member(at, offsetOut), member(at, offsetOutCap)
	copy(room[from:], view(*out, min(*member(at, offsetOutLen), *outCap)))
	*out, *outCap = addr(room)+uintptr(from), uintptr(len(room)-from)
	if f.takesBack != nil {
		gone := f.takesBack
		if n := len(f.rooms); n > 0 {
			gone = f.rooms[n-1]
		}
		if err := forbid(gone, true); err != nil {
			panic(err)
		}
	}
	f.rooms = append(f.rooms, room)
	f.out, f.outCap = *out, *outCap
	return abi.StatusOK
}

// findRoom returns guarded memory of n bytes at least, or nil. k.mu is held.
func (k *kit) findRoom(n int) []byte {
	if i := slices.IndexFunc(k.rooms, func(b []byte) bool { return len(b) >= n }); i >= 0 {
		room := k.rooms[i]
		k.rooms = slices.Delete(k.rooms, i, i+1)
		return room
	}
	room, err := guarded(max(n, 1))
	if err != nil {
		return nil
	}
	return room
}

// takeRoom takes from a frame whose function has returned what host->room gave it. c's room is the last of these then.
func (k *kit) takeRoom(at uintptr, c *abi.Call) (rooms [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.live[at]; len(f.rooms) > 0 {
		if f.takesBack != nil {
			for _, b := range append(f.rooms, f.takesBack) {
				if err := forbid(b, false); err != nil {
					panic(err)
				}
			}
			f.takesBack = nil
		}
		rooms, f.rooms = f.rooms, nil
		c.Out, c.OutCap = f.out, f.outCap
	}
	return rooms
}

// giveBack keeps rooms for other calls.
func (k *kit) giveBack(rooms [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rooms = append(k.rooms, rooms...)
}

// between is what host->background gave an instance: a frame in memory of its own, and its cancel word.
type between struct {
	frame  uintptr
	cancel *atomic.Uint32
}

// hostBackground is host->background. It runs on any thread.
func (k *kit) hostBackground(call uintptr) uintptr {
	f := k.service(call, "background", false)
	if f == nil {
		return 0
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !f.starts || k.alone {
		return 0
	}
	if f.between == nil {
		if n := len(k.spare); n > 0 {
			f.between, k.spare = k.spare[n-1], k.spare[:n-1]
		} else {
			b, err := guarded(4096)
			if err != nil {
				return 0
			}
			c := abi.Call{Size: sizeCall, In: addr(b[1024:]), Out: addr(b[1024:]), Host: addr(k.table), Cancel: addr(b[512:])}
			putCall(b, 0, c)
			f.between = &between{addr(b), at[atomic.Uint32](b, 512)}
		}
		f.between.cancel.Store(0)
		outer := k.frame(f.between.frame)
		outer.state, outer.background = outside, true
	}
	return f.between.frame
}

// lifetime says that a frame enters fn: what host->background gives to ferrule_start lives until ferrule_stop. The function that it returns
// is for afterwards, with the status and the state that came of it; it is nil for any other function.
func (k *kit) lifetime(at, fn, state uintptr) func(status abi.Status, state uintptr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.live[at]
	switch {
	case fn == k.start && fn != 0:
		f.starts = true
		return func(status abi.Status, state uintptr) {
			k.mu.Lock()
			defer k.mu.Unlock()
			b := f.between
			f.starts, f.between = false, nil
			switch {
			case b == nil:
			case status == abi.StatusOK && k.stop != 0:
				k.started[state] = append(k.started[state], b)
			case status != abi.StatusOK:
				k.endBetween(b)
			}
		}
	case fn == k.stop && fn != 0 && len(k.started[state]) > 0:
		b := k.started[state][0]
		if k.started[state] = k.started[state][1:]; len(k.started[state]) == 0 {
			delete(k.started, state)
		}
		b.cancel.Store(1)
		return func(abi.Status, uintptr) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.endBetween(b)
		}
	}
	return nil
}

// frame is what is known of the frame at an address. k.mu is held.
func (k *kit) frame(at uintptr) *frame {
	f := k.live[at]
	if f == nil {
		f = &frame{}
		k.live[at] = f
	}
	return f
}

// endBetween says that nobody may use it any more. k.mu is held.
func (k *kit) endBetween(b *between) {
	k.live[b.frame].state, k.live[b.frame].kept = idle, nil
	k.spare = append(k.spare, b)
}

// service finds the frame that a service is used with, if it may be. between says that it may be used between calls, too.
func (k *kit) service(at uintptr, name string, between bool) *frame {
	k.mu.Lock()
	f := k.live[at]
	state := idle
	if f != nil {
		state = f.state
		f.since = f.since || name != "call" && name != "log"
	}
	k.used[name] = true
	k.mu.Unlock()
	switch {
	case f == nil:
		k.misuse("R18", "host->"+name+" with a frame that is not the host's", "the frame of the running call",
			"Pass the pointer that the function got")
	case state == releasing:
		k.misuse("R9", "host->"+name+" in release", "a release that does not use the host",
			"Log or call before the function returns")
	case state == idle && f.background:
		k.misuse("R27", "host->"+name+" with the frame for what happens between calls, after ferrule_stop, or after a ferrule_start that failed",
			"nobody who uses it when ferrule_stop has returned", "Join in ferrule_stop the threads that use it; a ferrule_start that fails "+
				"must have ended them, too")
	case state == idle:
		k.misuse("R14", "host->"+name+" with a frame whose call is over",
			"threads that have stopped using the frame when the function returns",
			"Join the threads, or tell them to stop and wait until they did")
	case f.hasty:
		k.misuse("R34", "host->"+name+" in what says quick=yes", "a function that uses no host service, or does not say so",
			"Leave quick=yes out, or the service")
	case state == outside && !between:
		k.misuse("R27", "host->"+name+" with the frame for what happens between calls", "host->call, log, log_fields and info",
			"Use the other services in a call, with its frame")
	default:
		return f
	}
	return nil
}

func (k *kit) misuse(rule, seen, expected, mend string) abi.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events[misuse{rule, seen, expected, mend, false}] = true
	return abi.StatusMisuse
}

// warn is misuse for what breaks no rule, and is likely to be meant otherwise.
func (k *kit) warn(rule, seen, expected, mend string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events[misuse{rule, seen, expected, mend, true}] = true
}

// misuses reports what was seen of the library's use of host services that breaks one of these rules.
func (k *kit) misuses(function string, rules ...string) {
	k.mu.Lock()
	events := k.events
	k.events = map[misuse]bool{}
	k.mu.Unlock()
	for e := range events {
		if slices.Contains(rules, e.rule) {
			severity := Error
			if e.warning {
				severity = Warning
			}
			seen := e.seen
			if function != "" {
				seen = function + ": " + seen
			}
			k.find(Finding{Rule: e.rule, Severity: severity, Function: function, Seen: seen, Expected: e.expected, Mend: e.mend})
		}
	}
}
