package raw

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"

	"github.com/ferrule-dev/ferrule/abi"
)

func TestValid(t *testing.T) {
	const last = ^uintptr(0)
	for _, c := range []struct {
		addr, n uintptr
		valid   bool
	}{
		{0, 0, true}, {last, 0, true}, {1, 0, true}, {4096, 1, true}, {last, 1, true}, {last - 15, 16, true},
		{0, 1, false}, {1, 1, false}, {4095, 1 << 20, false}, {last, 2, false}, {last - 15, 17, false}, {last - 15, 1000, false},
		{4096, math.MaxInt + 1, false}, {4096, math.MaxInt, false}, {4096, last, false}, {last, last, false},
	} {
		assert.Equal(t, c.valid, Valid(c.addr, c.n), "%d bytes at %#x", c.n, c.addr)
	}
}

func TestAllocatable(t *testing.T) {
	assert.True(t, Allocatable(0, 0))
	assert.True(t, Allocatable(1000, 1<<20))
	assert.True(t, Allocatable(0, 1<<30), "a system that has no GiB cannot run the tests")
	for _, n := range []int{math.MaxInt, math.MaxInt / 2, math.MaxInt >> 16} {
		assert.False(t, Allocatable(0, n))
		assert.False(t, Allocatable(math.MaxInt, n))
	}
}

func TestAddr(t *testing.T) {
	assert.NotZero(t, Addr(nil), "the contract promises a pointer that is not NULL")
	assert.NotZero(t, Addr([]byte{}))
	b := []byte("hello")
	assert.Equal(t, b, Bytes(Addr(b), len(b)))
	assert.Nil(t, Bytes(0, 0))
	Bytes(Addr(b), len(b))[0] = 'J'
	assert.Equal(t, "Jello", string(b), "it is the same memory")
}

func TestRequest(t *testing.T) {
	var words [1 + unsafe.Sizeof(abi.Request{})/unsafe.Sizeof(uintptr(0))]uintptr
	r := (*abi.Request)(unsafe.Pointer(&words[0]))
	r.Size = unsafe.Sizeof(*r)
	assert.Same(t, r, Request(AddrOf(r)))
	r.Size--
	assert.Nil(t, Request(AddrOf(r)), "shorter than the first version")
	r.Size = ^uintptr(0)
	assert.Same(t, r, Request(AddrOf(r)), "a later version's")
	for _, addr := range []uintptr{0, 8, 4088} {
		assert.Nil(t, Request(addr), "on the first page: %#x", addr)
	}
	assert.Nil(t, Request(AddrOf(r)+1), "not aligned")
}

type incomparable struct {
	context.Context
	_ []int
}

func TestContexts(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	same := func(a, b context.Context) bool {
		aKind, aValue := Words(a)
		bKind, bValue := Words(b)
		return aKind == bKind && aValue == bValue
	}
	odd := context.Context(incomparable{Context: ctx})
	for _, one := range []context.Context{ctx, odd, context.Background(), context.TODO(), nil} {
		assert.True(t, same(one, one))
	}
	for _, other := range []context.Context{context.Background(), context.TODO(), odd, nil} {
		assert.False(t, same(ctx, other))
	}
	assert.False(t, same(context.Background(), context.TODO()), "of two types, with the same value")
	kind, _ := Words((*incomparable)(nil))
	assert.NotZero(t, kind, "it is not nil")
	assert.True(t, IsBackground(context.Background()))
	for _, other := range []context.Context{ctx, context.TODO(), odd, nil} {
		assert.False(t, IsBackground(other))
	}
}

func TestStore(t *testing.T) {
	var word atomic.Uint32
	StoreUint32(&word, 7)
	assert.EqualValues(t, 7, word.Load())
	var ptr atomic.Uintptr
	StoreUintptr(&ptr, 8)
	assert.EqualValues(t, 8, ptr.Load())
}

func TestAt(t *testing.T) {
	words := make([]uint64, 4)
	b := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 32)
	*At[uint64](b, 8) = 42
	assert.EqualValues(t, 42, words[1])
	assert.Panics(t, func() { At[uint64](b, 4) }, "not aligned")
	assert.Panics(t, func() { At[uint64](b, 32) }, "beyond the memory")
	assert.Panics(t, func() { At[uint64](b, -8) })
}
