package from_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/builtin"
	"github.com/ferrule-dev/ferrule/sdk-go/plugin"
)

// countVowels is what an author writes.
func countVowels(_ context.Context, text string) (n int, err error) {
	for i := range len(text) {
		switch text[i] {
		case 'a', 'e', 'i', 'o', 'u':
			n++
		}
	}
	return n, nil
}

// called is what `ferrule gen` writes around it.
func called(ctx context.Context, _ any, in []byte) ([]byte, error) {
	a, err := plugin.Text(in)
	if err != nil {
		return nil, err
	}
	r, err := countVowels(ctx, a)
	if err != nil {
		return nil, err
	}
	return plugin.ToJSON(r)
}

// counter is what a host would have that calls the same by an interface of its own.
type counter interface {
	CountVowels(ctx context.Context, in []byte) ([]byte, error)
}

type direct struct{}

func (direct) CountVowels(ctx context.Context, in []byte) ([]byte, error) {
	return called(ctx, nil, in)
}

var counters = []counter{direct{}} // of which the compiler does not know what is in it

var sixtyFour = []byte("the quick brown fox jumps over the lazy dog, and then does again")

func vowels(threads string) *plugin.Plugin {
	return plugin.New(plugin.Definition{Name: "vowels", Version: "1.0.0", Threads: threads, Functions: []plugin.Function{{Name: "count_vowels", Call: called}}})
}

func countsVowels(t testing.TB, p *builtin.Plugin) *loader.Func {
	opened, err := builtin.Open(p)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, opened.Close()) })
	f, err := opened.Func("count_vowels")
	require.NoError(t, err)
	return f
}

// BenchmarkCall is a call of 64 bytes that comes from a goroutine: by an interface of Go's, which does the same work, and through a plug-in.
func BenchmarkCall(b *testing.B) {
	ctx := context.Background()
	b.Run("way=interface", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := counters[0].CountVowels(ctx, sixtyFour); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, threads := range []string{"serial", "concurrent"} {
		b.Run("way="+threads, func(b *testing.B) {
			f := countsVowels(b, builtin.From(vowels(threads)))
			b.ReportAllocs()
			var out []byte
			var err error
			for b.Loop() {
				if out, err = f.Append(ctx, out[:0], sixtyFour); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("way=concurrent-parallel", func(b *testing.B) {
		f := countsVowels(b, builtin.From(vowels("concurrent")))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			var out []byte
			var err error
			for pb.Next() {
				if out, err = f.Append(ctx, out[:0], sixtyFour); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// What a call allocates beside the function's own work is its context, which the function may keep.
func TestAllocations(t *testing.T) {
	if racing {
		t.Skip("the race detector allocates")
	}
	ctx := context.Background()
	own := testing.AllocsPerRun(1000, func() { _, _ = counters[0].CountVowels(ctx, sixtyFour) })
	for _, threads := range []string{"serial", "concurrent"} {
		f := countsVowels(t, builtin.From(vowels(threads)))
		var out []byte
		assert.Equal(t, own+1, testing.AllocsPerRun(1000, func() { out, _ = f.Append(ctx, out[:0], sixtyFour) }), threads)
		assert.Equal(t, "18", string(out))
	}
}
