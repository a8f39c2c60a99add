// Package contract runs modules that keep Ferrule's contract (include/ferrule.h, chapter WEBASSEMBLY), on wasm32: the frame of a call lies in the
// module's memory, the host's services are its imports, and an instance is a state of the plug-in.
//
// The memory is the module's. Whatever is read from it is checked, and read once; a module that lies gets an error of its own call.
package contract

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
	"unsafe"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/table"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/engine/pool"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/guest"
)

// Words of 32 bits stand where abi's structures have machine words: at these offsets, in bytes.
const (
	word = 4

	frameSize    = word * uint32(unsafe.Sizeof(abi.Call{})/unsafe.Sizeof(uintptr(0)))
	frameState   = word * uint32(unsafe.Offsetof(abi.Call{}.State)/unsafe.Sizeof(uintptr(0)))
	frameIn      = word * uint32(unsafe.Offsetof(abi.Call{}.In)/unsafe.Sizeof(uintptr(0)))
	frameInLen   = frameIn + word
	frameOut     = word * uint32(unsafe.Offsetof(abi.Call{}.Out)/unsafe.Sizeof(uintptr(0)))
	frameOutLen  = frameOut + word
	frameOutCap  = frameOutLen + word
	frameRelease = frameOutCap + word
	frameHost    = word * uint32(unsafe.Offsetof(abi.Call{}.Host)/unsafe.Sizeof(uintptr(0)))
	frameCancel  = frameHost + word
	frameBar     = frameCancel + word // progress

	requestIn      = word * uint32(unsafe.Offsetof(abi.Request{}.In)/unsafe.Sizeof(uintptr(0)))
	requestOut     = word * uint32(unsafe.Offsetof(abi.Request{}.Out)/unsafe.Sizeof(uintptr(0)))
	requestOutLen  = requestOut + word
	requestOutCap  = requestOutLen + word
	requestOrdinal = requestOutCap + word
	requestKept    = requestOrdinal + word
	requestSize    = requestKept + word
)

// What the host has of a module's memory for a call: the frame, two words of progress, the word of cancellation, the input, the room.
const (
	atBar    = (frameSize + 7) &^ 7
	atCancel = atBar + 16
	atInput  = atCancel + 8

	longestInput = math.MaxInt32 / 2

	leastRoom = 4 << 10 // bytes
	keptBlock = 1 << 20 // a longer block is given back when the call is over
)

var le = binary.LittleEndian

// Names of what a module exports beside the symbols that a library has.
const (
	symbolServices = "ferrule_services" // a global: the address of its ferrule_host
	symbolAlloc    = "ferrule_alloc"
	symbolFree     = "ferrule_free"
	symbolPanic    = "ferrule_panic" // a global, or absent: the address of a panic's text and its length
)

// Code is a module that was compiled, and what is the same for all of its instances.
type Code struct {
	runtime  *guest.Runtime
	compiled wazero.CompiledModule
	config   func() wazero.ModuleConfig
	about    *abi.Description
	folder   string
	symbols  []string // of the functions, and behind them the hooks
	ordinals []abi.Symbol
}

// New compiles a module that says this of itself. config is for each instance; folder is the answer to the key "path". The error is that of guest's Compile, or of
// what it imports.
func New(ctx context.Context, r *guest.Runtime, module []byte, about *abi.Description, folder string, config func() wazero.ModuleConfig) (*Code, error) {
	c := &Code{runtime: r, about: about, folder: folder, config: config, ordinals: about.Ordinals()}
	for _, f := range about.Funcs {
		c.symbols = append(c.symbols, abi.PrefixFunc+f.Name)
	}
	for _, h := range about.Hooks {
		c.symbols = append(c.symbols, abi.PrefixHook+h.Name)
	}
	if err := services(ctx, r); err != nil {
		return nil, err
	}
	var err error
	c.compiled, err = r.Compile(ctx, module)
	return c, err
}

// patience is how long what starts and changes an instance may take, where nobody who waits for it says less; and what stops it, of which nobody says.
const (
	patience       = 10 * time.Second
	patienceOfStop = 2 * time.Second
)

// Pool is the plug-in for package pool. spare is how many more instances a concurrent plug-in without a state may have.
func (c *Code) Pool(spare int) *pool.Code {
	code := &pool.Code{About: c.about, Exclusive: true, Call: call, Start: c.start, Stop: stop,
		Names: pool.Names{Start: abi.SymbolStart, Stop: abi.SymbolStop, Configure: abi.SymbolConfigure, Save: abi.SymbolSave, Resume: abi.SymbolResume}}
	if c.about.Manifest.Threads == abi.Concurrent && !c.about.HasStart && !c.about.HasStop && !c.about.HasSave {
		code.Spare = spare
	}
	if c.about.HasConfigure {
		code.Configure = control(abi.SymbolConfigure)
	}
	if c.about.HasSave {
		code.Save, code.Resume = control(abi.SymbolSave), control(abi.SymbolResume)
	}
	return code
}

// instance is one instance of the module.
type instance struct {
	*guest.Guest
	code     *Code
	mem      api.Memory
	fns      []api.Function
	alloc    api.Function
	free     api.Function
	services uint32
	state    uint32
	stack    [2]uint64

	block, size uint32 // the host's memory in the module, and how long it is
	room, cap   uint32 // of the call that runs: the room, which host->room may have replaced
	rooms       []uint32
	inside      bool // a call's function runs: its frame is valid
	releaseFn   api.Function
	releaseAt   uint32

	piece     uint32 // where pieces of streams are lent
	kept      map[uint32]kept
	keptCount uint32
	keptBytes int64 // of all of them
}

// kept is a result of a host function that did not fit.
type kept struct {
	out    []byte
	status abi.Status
}

// start makes an instance: pool.Code's Start.
func (c *Code) start(pc *pool.Call, config []byte) (out []byte, status abi.Status, err error) {
	g, err := c.runtime.Instantiate(context.Background(), c.compiled, c.config())
	if err != nil {
		return []byte(oneLine(err)), abi.StatusFailed, nil
	}
	in := &instance{Guest: g, code: c, mem: g.Module.Memory()}
	g.Asked, g.Look = in.asked, in.progress
	g.Owner = in
	defer func() {
		if status != abi.StatusOK || err != nil {
			in.Close()
		}
	}()
	if in.mem == nil {
		return []byte("the module exports no memory"), abi.StatusFailed, nil
	}
	g.ServeAtMost(pc, patience, abi.SymbolStart)
	if err := g.Start(); err != nil {
		return in.outcome(nil, err)
	}
	if f := g.Module.ExportedFunction("_initialize"); f != nil {
		if err := g.Enter(f, make([]uint64, len(f.Definition().ParamTypes())+len(f.Definition().ResultTypes()))); err != nil {
			return in.outcome(nil, err)
		}
	}
	for _, symbol := range c.symbols {
		in.fns = append(in.fns, g.Module.ExportedFunction(symbol))
	}
	in.alloc, in.free = g.Module.ExportedFunction(symbolAlloc), g.Module.ExportedFunction(symbolFree)
	if in.alloc == nil || in.free == nil {
		return []byte(fmt.Sprintf("the module exports no %s and %s", symbolAlloc, symbolFree)), abi.StatusFailed, nil
	}
	if s := g.Module.ExportedGlobal(symbolServices); s != nil {
		in.services = uint32(s.Get())
	}
	for ordinal, s := range c.ordinals {
		prefix := abi.PrefixImport
		if ordinal >= len(c.about.Imports) {
			prefix = abi.PrefixWant
		}
		slot := g.Module.ExportedGlobal(prefix + s.Name)
		if slot == nil && g.Module.ExportedFunction(prefix+s.Name+"=") != nil {
			continue // a name without an object: the module counts by itself
		}
		if slot == nil || !in.mem.WriteUint32Le(uint32(slot.Get()), uint32(ordinal)) {
			return []byte("the module has no memory at " + prefix + s.Name), abi.StatusFailed, nil
		}
	}
	pc.SetState(in)
	if !c.about.HasStart {
		return nil, abi.StatusOK, nil
	}
	return in.run(g.Module.ExportedFunction(abi.SymbolStart), nil, config, true)
}

// stop is pool.Code's Stop. An instance that was ended half way is not entered again.
func stop(pc *pool.Call) {
	in, _ := pc.State().(*instance)
	if in == nil {
		return
	}
	defer in.Close()
	f := in.Module.ExportedFunction(abi.SymbolStop)
	if f == nil || in.Broken() {
		return
	}
	in.ServeAtMost(pc, patienceOfStop, abi.SymbolStop)
	out, status, err := in.run(f, nil, nil, false)
	if err == nil && status != abi.StatusOK {
		err = &engine.StartError{Symbol: abi.SymbolStop, Status: status, Message: string(out)}
	}
	if err != nil {
		pc.Log(pc.Context(), abi.LogWarn, []byte(err.Error()), nil)
	}
}

func control(symbol string) pool.Control {
	return func(pc *pool.Call, in []byte) ([]byte, abi.Status, error) {
		i := pc.State().(*instance)
		i.ServeAtMost(pc, patience, symbol)
		return i.run(i.Module.ExportedFunction(symbol), nil, in, symbol == abi.SymbolResume)
	}
}

// call is pool.Code's Call.
func call(pc *pool.Call, fn int, dst, in []byte) ([]byte, abi.Status, error) {
	i := pc.State().(*instance)
	i.Serve(pc)
	return i.run(i.fns[fn], dst, in, false)
}

// run runs a function of the plug-in's with in, and appends what it returns to dst. setsState is of those that may set the state.
func (in *instance) run(f api.Function, dst, input []byte, setsState bool) ([]byte, abi.Status, error) {
	if f == nil {
		return append(dst, "the module does not export it any more"...), abi.StatusFailed, nil
	}
	n := uint32(len(input))
	if len(input) > longestInput || !in.fits(n) {
		if len(input) > longestInput {
			return append(dst, "the input is longer than a module's memory"...), abi.StatusNoMemory, nil
		}
		if text, err := in.reserve(atInput + (n+7)&^7 + n + leastRoom); err != nil || text != "" {
			if err != nil {
				return in.outcome(dst, err)
			}
			return append(dst, text...), abi.StatusNoMemory, nil
		}
	}
	at := in.block
	all, ok := in.mem.Read(at, in.size)
	if !ok {
		return dst, 0, &engine.Violation{Rule: "R8", Found: fmt.Sprintf("%s at %#x from %s, where the module has no memory", bytesOf(in.size), at, symbolAlloc), Expected: "memory of the module's"}
	}
	in.room = at + atInput + (n+7)&^7
	in.cap = at + in.size - in.room
	le.PutUint32(all, frameSize)
	le.PutUint32(all[frameState:], in.state)
	le.PutUint32(all[frameIn:], at+atInput)
	le.PutUint32(all[frameInLen:], n)
	le.PutUint32(all[frameOut:], in.room)
	le.PutUint32(all[frameOutLen:], 0)
	le.PutUint32(all[frameOutCap:], in.cap)
	le.PutUint32(all[frameRelease:], 0)
	le.PutUint32(all[frameHost:], in.services)
	le.PutUint32(all[frameCancel:], at+atCancel)
	bar := uint32(0)
	if in.Guest.Call().Watched() {
		bar = at + atBar
	}
	le.PutUint32(all[frameBar:], bar)
	clear(all[atBar:atInput])
	copy(all[atInput:], input)
	in.stack[0] = uint64(at)
	in.inside = true
	err := in.Enter(f, in.stack[:])
	in.inside = false
	if err != nil {
		in.size = 0
		return in.outcome(dst, err)
	}
	before := len(dst)
	dst, status, err := in.take(dst, abi.Status(int32(in.stack[0])), setsState)
	if in.unusual() {
		if e := in.tidy(); e != nil {
			return in.outcome(dst[:before], e)
		}
	}
	return dst, status, err
}

// fits reports whether the block has room for an input of n bytes and what may come of it.
func (in *instance) fits(n uint32) bool { return in.size >= atInput+(n+7)&^7+n+leastRoom }

// take appends to dst what a call has left in its frame, and gives the module's own memory back to it.
func (in *instance) take(dst []byte, status abi.Status, setsState bool) ([]byte, abi.Status, error) {
	frame, ok := in.mem.Read(in.block, atInput)
	if !ok {
		return dst, 0, &engine.Violation{Rule: "R6", Found: "the frame's memory is gone", Expected: "memory that does not shrink"}
	}
	out, n, release := le.Uint32(frame[frameOut:]), le.Uint32(frame[frameOutLen:]), le.Uint32(frame[frameRelease:])
	if setsState && status == abi.StatusOK {
		in.state = le.Uint32(frame[frameState:])
	}
	in.progress()
	before := len(dst)
	var err error
	switch bytes, valid := in.mem.Read(out, n); {
	case status < 0:
		err = &engine.Violation{Rule: "R10", Found: fmt.Sprintf("the status %d", int32(status)), Expected: "0 or a positive number"}
	case out == 0 && n > 0:
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d with out NULL", n), Expected: "out to point at the result"}
	case n > math.MaxInt32:
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d", n), Expected: "PTRDIFF_MAX at most"}
	case n > 0 && !valid:
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d at %#x, where no memory can be", n, out), Expected: "out to point at out_len bytes"}
	case release != 0:
		dst = append(dst, bytes...)
	case n > in.cap && out == in.room:
		err = &engine.Violation{Rule: "R8", Found: fmt.Sprintf("out_len %d in a room of %s, without release", n, bytesOf(in.cap)), Expected: "out_len of out_cap at most, or release set"}
	case n > 0 && out != in.room:
		err = &engine.Violation{Rule: "R8", Found: "another pointer in out, without release", Expected: "release set when out is the plug-in's own memory"}
	default:
		dst = append(dst, bytes...)
	}
	if release != 0 {
		if e := in.release(release); e != nil {
			dst, status, err = in.outcome(dst[:before], e)
		}
	}
	if err != nil {
		return dst[:before], 0, err
	}
	return dst, status, nil
}

// release calls the function with this index in the module's table, with the frame (R9): it may not use the host.
func (in *instance) release(index uint32) (err error) {
	if in.releaseFn == nil || in.releaseAt != index {
		in.releaseFn, in.releaseAt = lookUp(in.Module, index), index
	}
	if in.releaseFn == nil {
		return &guest.Trap{What: fmt.Sprintf("release is %d, which is no function of the type void (ferrule_call *)", index)}
	}
	in.stack[0] = uint64(in.block)
	return in.Enter(in.releaseFn, in.stack[:])
}

// lookUp returns the function with this index in the module's first table, nil where there is none of release's type.
func lookUp(m api.Module, index uint32) (f api.Function) {
	defer func() {
		if recover() != nil { // which is how wazero says so
			f = nil
		}
	}()
	return table.LookupFunction(m, 0, index, []api.ValueType{api.ValueTypeI32}, nil)
}

// outcome is what a call comes to whose function did not return.
func (in *instance) outcome(dst []byte, err error) ([]byte, abi.Status, error) {
	switch e := err.(type) {
	case *guest.Trap:
		if said := in.said(); said != "" { // which says where it was, too
			return append(dst, said...), abi.StatusPanic, nil
		}
		return append(dst, e.Error()...), abi.StatusPanic, nil
	case *guest.Exit, *guest.OutOfFuel:
		return append(dst, e.Error()...), abi.StatusPanic, nil
	default:
		return dst, 0, err
	}
}

// said returns what the module's SDK has left of a panic, "" where there is nothing.
func (in *instance) said() string {
	at := in.Module.ExportedGlobal(symbolPanic)
	if at == nil {
		return ""
	}
	cell, ok := in.mem.Read(uint32(at.Get()), 8)
	if !ok || le.Uint32(cell) == 0 {
		return ""
	}
	text, ok := in.mem.Read(le.Uint32(cell), min(le.Uint32(cell[4:]), leastRoom))
	if !ok {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(text)), "\uFFFD")
}

// progress hands on how far the call is (R30).
func (in *instance) progress() {
	if !in.Guest.Call().Watched() || in.size == 0 {
		return
	}
	if bar, ok := in.mem.Read(in.block+atBar, 16); ok {
		if done, total := le.Uint64(bar), le.Uint64(bar[8:]); done|total != 0 {
			in.Guest.Call().Progress(done, total)
		}
	}
}

// asked sets the word of cancellation (R17).
func (in *instance) asked() {
	if in.size != 0 {
		in.mem.WriteUint32Le(in.block+atCancel, 1)
	}
}

// reserve makes the block n bytes long, or longer. text says why that cannot be had.
func (in *instance) reserve(n uint32) (text string, err error) {
	if in.size != 0 {
		in.stack[0] = uint64(in.block)
		in.size = 0
		if err := in.Enter(in.free, in.stack[:]); err != nil {
			return "", err
		}
	}
	n = max(n, 2*leastRoom)
	at, err := in.allocate(n)
	if err != nil {
		return "", err
	}
	if at == 0 {
		return fmt.Sprintf("the module has no memory for %s of input and room", bytesOf(n)), nil
	}
	in.block, in.size = at, n
	return "", nil
}

// allocate asks the module for n bytes of its memory, aligned for any of the contract's structures; 0 where it has none.
func (in *instance) allocate(n uint32) (uint32, error) {
	if int64(n) > in.Memory() { // a runtime such as Go's ends the module where it has no memory
		return 0, nil
	}
	in.stack[0] = uint64(n)
	if err := in.Enter(in.alloc, in.stack[:]); err != nil {
		return 0, err
	}
	at := uint32(in.stack[0])
	if _, ok := in.mem.Read(at, n); !ok || at%8 != 0 {
		return 0, nil
	}
	return at, nil
}

// unusual reports whether something is to be given back when the call is over.
func (in *instance) unusual() bool {
	return in.size > keptBlock || len(in.rooms) > 0 || len(in.kept) > 0 || in.piece != 0
}

// tidy gives back what a call had beside its block, and a block that is long.
func (in *instance) tidy() error {
	clear(in.kept)
	in.keptBytes = 0
	back := in.rooms
	if in.piece != 0 {
		back = append(back, in.piece)
	}
	if in.size > keptBlock {
		back = append(back, in.block)
		in.size = 0
	}
	in.rooms, in.piece = in.rooms[:0], 0
	for _, at := range back {
		in.stack[0] = uint64(at)
		if err := in.Enter(in.free, in.stack[:]); err != nil {
			return err
		}
	}
	return nil
}

// bytesOf is a number of bytes in words.
func bytesOf(n uint32) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprint(n, " bytes")
}

func oneLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}
