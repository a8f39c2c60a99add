package main

import (
	"encoding/binary"
	"runtime"
	"slices"
	"unsafe"

	"github.com/ebitengine/purego"
)

func init() {
	contenders["purego-syscalln"] = func(e env) (*peer, error) {
		lib, err := purego.Dlopen(e.path("libwork.so"), purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err != nil {
			return nil, err
		}
		addr, err := symbols(lib)
		if err != nil {
			return nil, err
		}
		host := purego.NewCallback(hostEcho)
		return &peer{fn: func(name string) (call, error) {
			fn := addr[name]
			switch name {
			case "echo":
				return func(dst, in []byte) ([]byte, error) {
					dst = slices.Grow(dst, len(in))[:len(in)]
					purego.SyscallN(fn, uintptr(unsafe.Pointer(unsafe.SliceData(in))), uintptr(len(in)),
						uintptr(unsafe.Pointer(unsafe.SliceData(dst))))
					return dst, nil
				}, nil
			case "count_vowels":
				return func(dst, in []byte) ([]byte, error) {
					n, _, _ := purego.SyscallN(fn, uintptr(unsafe.Pointer(unsafe.SliceData(in))), uintptr(len(in)))
					return binary.LittleEndian.AppendUint64(dst, uint64(n)), nil
				}, nil
			}
			return func(dst, in []byte) ([]byte, error) {
				dst = slices.Grow(dst, len(in))[:len(in)]
				n, _, _ := purego.SyscallN(fn, uintptr(unsafe.Pointer(unsafe.SliceData(in))), uintptr(len(in)),
					uintptr(unsafe.Pointer(unsafe.SliceData(dst))), host)
				return dst[:n], nil
			}, nil
		}}, nil
	}
	contenders["purego-registerfunc"] = func(e env) (*peer, error) {
		lib, err := purego.Dlopen(e.path("libwork.so"), purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err != nil {
			return nil, err
		}
		addr, err := symbols(lib)
		if err != nil {
			return nil, err
		}
		var (
			echo        func(in *byte, n uintptr, out *byte)
			countVowels func(in *byte, n uintptr) uint64
			ask         func(in *byte, n uintptr, out *byte, host uintptr) uintptr
		)
		purego.RegisterFunc(&echo, addr["echo"])
		purego.RegisterFunc(&countVowels, addr["count_vowels"])
		purego.RegisterFunc(&ask, addr["ask"])
		host := purego.NewCallback(hostEcho)
		return &peer{fn: func(name string) (call, error) {
			switch name {
			case "echo":
				return func(dst, in []byte) ([]byte, error) {
					dst = slices.Grow(dst, len(in))[:len(in)]
					echo(unsafe.SliceData(in), uintptr(len(in)), unsafe.SliceData(dst))
					runtime.KeepAlive(in)
					return dst, nil
				}, nil
			case "count_vowels":
				return func(dst, in []byte) ([]byte, error) {
					n := countVowels(unsafe.SliceData(in), uintptr(len(in)))
					runtime.KeepAlive(in)
					return binary.LittleEndian.AppendUint64(dst, n), nil
				}, nil
			}
			return func(dst, in []byte) ([]byte, error) {
				dst = slices.Grow(dst, len(in))[:len(in)]
				n := ask(unsafe.SliceData(in), uintptr(len(in)), unsafe.SliceData(dst), host)
				runtime.KeepAlive(in)
				return dst[:n], nil
			}, nil
		}}, nil
	}
}

func symbols(lib uintptr) (map[string]uintptr, error) {
	addr := make(map[string]uintptr)
	for _, name := range []string{"echo", "count_vowels", "ask"} {
		at, err := purego.Dlsym(lib, "work_"+name)
		if err != nil {
			return nil, err
		}
		addr[name] = at
	}
	return addr, nil
}

// hostEcho is the host function: both are n bytes of the caller's.
func hostEcho(in unsafe.Pointer, n uintptr, out unsafe.Pointer) uintptr {
	return uintptr(copy(unsafe.Slice((*byte)(out), n), unsafe.Slice((*byte)(in), n)))
}
