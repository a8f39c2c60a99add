package contract

import (
	"context"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/api"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/wasm/internal/guest"
)

// module is what the host's services are imported from.
const module = "ferrule"

// services makes the host's services, once in a runtime: each finds the instance that it serves by its context.
func services(ctx context.Context, r *guest.Runtime) error {
	b := r.NewHostModuleBuilder(module)
	for _, s := range []struct {
		name   string
		params int
		serve  func(in *instance, args []uint64) abi.Status
	}{
		{"call", 2, func(in *instance, args []uint64) abi.Status { return in.answer(hostFunction, uint32(args[1])) }},
		{"log", 4, func(in *instance, args []uint64) abi.Status {
			return in.log(abi.Level(args[1]), uint32(args[2]), uint32(args[3]), 0, 0)
		}},
		{"log_fields", 6, func(in *instance, args []uint64) abi.Status {
			return in.log(abi.Level(args[1]), uint32(args[2]), uint32(args[3]), uint32(args[4]), uint32(args[5]))
		}},
		{"info", 2, func(in *instance, args []uint64) abi.Status { return in.answer(info, uint32(args[1])) }},
		{"room", 2, func(in *instance, args []uint64) abi.Status { return in.grant(uint32(args[1])) }},
		{"read", 3, func(in *instance, args []uint64) abi.Status { return in.read(uint32(args[1]), uint32(args[2])) }},
		{"write", 3, func(in *instance, args []uint64) abi.Status { return in.write(uint32(args[1]), uint32(args[2])) }},
		{"next", 2, func(in *instance, args []uint64) abi.Status { return in.answer(next, uint32(args[1])) }},
	} {
		params := make([]api.ValueType, s.params)
		for i := range params {
			params[i] = api.ValueTypeI32
		}
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
			in, _ := guest.Of(ctx).Owner.(*instance)
			status := abi.StatusMisuse
			if in != nil && in.inside && uint32(stack[0]) == in.block { // the frame of a call that is over is nobody's
				status = s.serve(in, stack)
			}
			stack[0] = uint64(uint32(status))
		}), params, []api.ValueType{api.ValueTypeI32}).Export(s.name)
	}
	// A module has no threads that could do something between calls (R27).
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(_ context.Context, stack []uint64) { stack[0] = 0 }),
		[]api.ValueType{api.ValueTypeI32}, []api.ValueType{api.ValueTypeI32}).Export("background")
	_, err := b.Instantiate(ctx)
	return err
}

// kind is which service takes a request.
type kind uint8

const (
	hostFunction kind = iota
	info
	next
)

// maxKey is the longest key of host->info, in bytes (R26).
const maxKey = 256

// answer runs a service that takes a request.
func (in *instance) answer(k kind, at uint32) abi.Status {
	r, ok := in.mem.Read(at, requestSize)
	if !ok || at == 0 || at%word != 0 || le.Uint32(r) < requestSize { // R21
		return abi.StatusMisuse
	}
	input, n := le.Uint32(r[requestIn:]), le.Uint32(r[requestIn+word:])
	out, room := le.Uint32(r[requestOut:]), le.Uint32(r[requestOutCap:])
	ordinal, number := le.Uint32(r[requestOrdinal:]), le.Uint32(r[requestKept:])
	if !in.valid(out, room) {
		return abi.StatusMisuse
	}
	if number != 0 { // its input may be gone
		result, ok := in.kept[number]
		if !ok {
			return abi.StatusMisuse
		}
		return in.deliver(at, result, number, out, room)
	}
	if !in.valid(input, n) {
		return abi.StatusMisuse
	}
	bytes, _ := in.mem.Read(input, n)
	pc := in.Call()
	var result kept
	switch {
	case k == hostFunction && ordinal >= uint32(len(in.code.ordinals)):
		return abi.StatusMisuse
	case k == hostFunction:
		result.out, result.status = pc.Host(pc.Context(), ordinal, bytes)
	case k == next:
		result.out, result.status = pc.Next(pc.Context(), bytes)
	case n == 0 || n > maxKey || !utf8.Valid(bytes):
		return abi.StatusMisuse // R26
	default:
		result.out, result.status = in.info(bytes)
	}
	in.AskEnded()
	return in.deliver(at, result, 0, out, room)
}

// info answers a key.
func (in *instance) info(key []byte) ([]byte, abi.Status) {
	switch string(key) {
	case engine.KeyInstance:
		return strconv.AppendInt(nil, int64(in.Call().Number()), 10), abi.StatusOK
	case engine.KeyPath:
		return []byte(in.code.folder), abi.StatusOK
	}
	return in.Call().Host(in.Call().Context(), engine.Info, key)
}

// deliver writes a host function's result to the plug-in's room, or keeps it when it does not fit; number is that of a result that is kept
// already, or 0. The request is where it was: nothing of the module's has run meanwhile.
func (in *instance) deliver(at uint32, result kept, number, out, room uint32) abi.Status {
	r, ok := in.mem.Read(at, requestSize)
	if !ok {
		return abi.StatusMisuse
	}
	if len(result.out) > int(room) {
		if number == 0 {
			if in.keptBytes += int64(len(result.out)); in.keptBytes > in.Memory() { // it is for as much as the module's memory, and no more
				in.keptBytes -= int64(len(result.out))
				return abi.StatusNoMemory
			}
			if in.kept == nil {
				in.kept = make(map[uint32]kept)
			}
			if in.keptCount++; in.keptCount == 0 {
				in.keptCount++
			}
			number = in.keptCount
			in.kept[number] = result
		}
		le.PutUint32(r[requestOutLen:], uint32(min(uint64(len(result.out)), math.MaxUint32)))
		le.PutUint32(r[requestKept:], number)
		return abi.StatusMore
	}
	le.PutUint32(r[requestOutLen:], uint32(len(result.out)))
	le.PutUint32(r[requestKept:], 0)
	in.mem.Write(out, result.out)
	return result.status
}

// valid reports whether n bytes can be at an address; it may be NULL where there are none.
func (in *instance) valid(at, n uint32) bool {
	if n == 0 {
		return true
	}
	_, ok := in.mem.Read(at, n)
	return ok && at != 0
}

// log writes a line.
func (in *instance) log(level abi.Level, text, textLen, fields, fieldsLen uint32) abi.Status {
	if !in.valid(text, textLen) || !in.valid(fields, fieldsLen) {
		return abi.StatusMisuse
	}
	t, _ := in.mem.Read(text, textLen)
	f, _ := in.mem.Read(fields, fieldsLen)
	in.Call().Log(in.Call().Context(), level, t, f)
	in.AskEnded()
	return abi.StatusOK
}

// nested asks the module for memory while a function of it runs. What does not return ends that function.
func (in *instance) nested(n uint32) uint32 {
	in.inside = false // services are not for the allocator
	at, err := in.allocate(n)
	in.inside = true
	if err != nil {
		in.End(err)
	}
	return at
}

// grant gives a call more room (R25).
func (in *instance) grant(n uint32) abi.Status {
	f, ok := in.mem.Read(in.block, frameSize)
	if !ok {
		return abi.StatusMisuse
	}
	out, outLen, outCap := le.Uint32(f[frameOut:]), le.Uint32(f[frameOutLen:]), le.Uint32(f[frameOutCap:])
	switch {
	case le.Uint32(f[frameRelease:]) != 0 || outLen > outCap || !in.valid(out, outLen):
		return abi.StatusMisuse
	case n <= outCap:
		return abi.StatusOK
	case len(in.rooms) == maxRooms:
		return abi.StatusNoMemory
	}
	at := in.nested(n)
	if at == 0 {
		return abi.StatusNoMemory
	}
	in.rooms = append(in.rooms, at)
	kept, _ := in.mem.Read(out, outLen)
	in.mem.Write(at, kept)
	in.room, in.cap = at, n
	f, _ = in.mem.Read(in.block, frameSize) // the memory may have grown
	le.PutUint32(f[frameOut:], at)
	le.PutUint32(f[frameOutCap:], n)
	return abi.StatusOK
}

// maxRooms is how many rooms a call gets: what the host remembers of them is not in the module's memory.
const maxRooms = 4096

// pieceSize is how long a piece of a stream is at most.
const pieceSize = 64 << 10

// read lends the next piece of the input stream (R24), in memory that the host has of the module.
func (in *instance) read(pieceAt, lenAt uint32) abi.Status {
	if pieceAt == 0 || lenAt == 0 || pieceAt%word != 0 || lenAt%word != 0 || !in.valid(pieceAt, word) || !in.valid(lenAt, word) {
		return abi.StatusMisuse
	}
	piece, status := in.Call().Piece(pieceSize)
	at := uint32(0)
	if status == abi.StatusOK && len(piece) > 0 {
		if in.piece == 0 {
			in.piece = in.nested(pieceSize)
		}
		if in.piece == 0 {
			in.End(&guest.Trap{What: "the module has no memory for a piece of its input stream"})
		}
		at = in.piece
		in.mem.Write(at, piece)
	}
	in.mem.WriteUint32Le(pieceAt, at)
	in.mem.WriteUint32Le(lenAt, uint32(len(piece)))
	in.AskEnded()
	return status
}

// write passes a piece on to the output stream (R24).
func (in *instance) write(at, n uint32) abi.Status {
	if !in.valid(at, n) {
		return abi.StatusMisuse
	}
	piece, _ := in.mem.Read(at, n)
	status := in.Call().Write(piece)
	in.AskEnded()
	return status
}
