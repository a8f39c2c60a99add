package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
)

// shop is where all tests have their plug-ins from, so that each is built once.
var shop = sync.OnceValues(func() (*market, error) { return newMarket(context.Background()) })

func TestMain(m *testing.M) {
	status := m.Run()
	if s, err := shop(); err == nil {
		s.close()
	}
	os.Exit(status)
}

// watchSources lists every file that the plug-ins are built from. That is how go test learns what its result depends on.
func watchSources(t *testing.T, m *market) {
	t.Helper()
	for _, folder := range []string{"examples/everywhere", "examples/build.sh", "include", "sdk-c/include", "sdk-rust", "sdk-go", "loader/script"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(m.root, folder), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "target" {
				return fs.SkipDir
			}
			return err
		}))
	}
}

// everywhere runs a test for each form, with a host function that knows how many points customers have. One that this machine lacks something for is
// skipped; with CI in the environment it fails.
func everywhere(t *testing.T, points func(context.Context, []byte) ([]byte, error), test func(*testing.T, *loader.Plugin)) {
	fixture.Loadable(t)
	m, err := shop()
	require.NoError(t, err)
	watchSources(t, m)
	require.Len(t, forms, 12)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			p, err := f.open(m, loader.WithHostFunc("loyalty_points", points))
			var missing *missingError
			if errors.As(err, &missing) && os.Getenv("CI") == "" {
				t.Skip(missing)
			}
			require.NoError(t, err)
			defer func() { assert.NoError(t, p.Close()) }()
			test(t, p)
		})
	}
}

// oracle decides by fractions what the plug-ins decide by integers.
func oracle(c Cart, points int64) Discount {
	exact := func(n int64) *big.Rat { return new(big.Rat).SetInt64(n) }
	// rounded is a fraction of an amount in whole cents: what lies less than a half away, or the next one above a half.
	rounded := func(amount *big.Rat, percent int64) *big.Rat {
		r := new(big.Rat).Mul(amount, big.NewRat(percent, 100))
		r.Add(r, big.NewRat(1, 2))
		return new(big.Rat).SetInt(new(big.Int).Quo(r.Num(), r.Denom()))
	}
	total, saved, largest := new(big.Rat), new(big.Rat), new(big.Rat)
	var best *string
	for i := range c.Items {
		cost := new(big.Rat).Mul(exact(c.Items[i].Cents), exact(c.Items[i].Quantity))
		total.Add(total, cost)
		if c.Items[i].Category == "books" {
			off := rounded(cost, 10)
			saved.Add(saved, off)
			if off.Cmp(largest) > 0 {
				largest, best = off, &c.Items[i].Name
			}
		}
	}
	left := func() *big.Rat { return new(big.Rat).Sub(total, saved) }
	volume := int64(0)
	if left().Cmp(exact(10_000)) >= 0 {
		volume = 5
	}
	if left().Cmp(exact(50_000)) >= 0 {
		volume = 10
	}
	saved.Add(saved, rounded(left(), volume))
	if c.Coupon != "" {
		if coupon := exact(500); left().Cmp(coupon) > 0 {
			saved.Add(saved, coupon)
		} else {
			saved.Set(total)
		}
	}
	half := new(big.Rat).Quo(left(), exact(2))
	spent := new(big.Int).Quo(half.Num(), half.Denom()).Int64()
	if c.Customer == "" {
		spent = 0
	} else if points < spent {
		spent = points
	}
	saved.Add(saved, exact(spent))
	return Discount{Cents: saved.Num().Int64(), Points: spent, Best: best}
}

const mostCents int64 = 1<<53 - 1

// edges are carts at the bounds of what the README says.
func edges() []Cart {
	book := func(cents, quantity int64) Item { return Item{"a book", "books", cents, quantity} }
	pot := func(cents, quantity int64) Item { return Item{"a pot", "kitchen", cents, quantity} }
	carts := []Cart{
		{"", "", []Item{}}, {"p9", "FIVE", []Item{}},
		{"p0", "", []Item{book(0, 0), book(0, mostCents), book(mostCents, 0)}},
		{"p0", "", []Item{book(mostCents, 1)}}, {"p9", "FIVE", []Item{pot(1, mostCents)}},
		{fmt.Sprint("p", mostCents), "FIVE", []Item{pot(mostCents-1, 1), book(1, 1)}},
		{fmt.Sprint("p", mostCents), "", []Item{book(mostCents/3, 3)}},
		{"p1", "", []Item{book(94906265, 94906265)}},
		{"p0", "", []Item{{"Größe L “☕” \U0001F375 \u202e\u0000\n\\\"/ 漢字", "books", 100, 1}}},
		{"p0", "", []Item{{"", "books", 100, 1}, {"the second of two", "books", 100, 1}}},
		{"p0", "", []Item{{"a book by half", "books\u0000", 100, 1}, {"no book", "Books", 100, 1}, {"a", "", 100, 1}}},
		{"p0", "", []Item{book(4, 1), book(5, 1), book(14, 1), book(15, 1)}},
		{"p5 größer ☕\u0000", "FIVE", []Item{pot(1000, 1)}},
		{"", "FIVE", []Item{pot(499, 1)}}, {"", "FIVE", []Item{pot(500, 1)}}, {"", "FIVE", []Item{pot(501, 1)}},
		{"p1000", "", []Item{pot(7, 1)}},
	}
	for _, cents := range []int64{9_999, 10_000, 10_009, 10_010, 49_999, 50_000, 50_004, 50_005, 52_631, 52_632} {
		carts = append(carts, Cart{"p3", "", []Item{pot(cents, 1)}}, Cart{"p3", "FIVE", []Item{pot(cents, 1), book(50, 1)}})
	}
	many := Cart{Customer: "p77"}
	for i := range int64(1000) {
		many.Items = append(many.Items, Item{fmt.Sprint("no. ", i), []string{"books", "tea"}[i%2], i, i % 7})
	}
	return append(carts, many)
}

// random makes carts of every size, with numbers of every magnitude that add up to no more than can be told.
func random(r *rand.Rand) Cart {
	texts := []string{"", "tea", "books", "Bücher", "本", "\U0001F4DA", "a \"quoted\" one", "back\\slash", "line\nend", "\u2028", "<&>", "nul\u0000", "\u007f"}
	text := func() string { return texts[r.IntN(len(texts))] }
	number := func(most int64) int64 { return r.Int64N(most>>r.IntN(53) + 1) }
	c := Cart{Items: []Item{}}
	if r.IntN(4) > 0 {
		c.Customer = fmt.Sprint("p", number(mostCents), text())
	}
	if r.IntN(2) > 0 {
		c.Coupon = "FIVE"
	}
	left := int64(mostCents)
	if r.IntN(4) > 0 { // as most are
		left = 100_000
	}
	for range r.IntN(12) {
		item := Item{Name: text() + text(), Category: []string{"books", text()}[r.IntN(2)], Cents: number(left)}
		item.Quantity = number(left / max(item.Cents, 1))
		left -= item.Cents * item.Quantity
		c.Items = append(c.Items, item)
	}
	return c
}

// pointsOf knows of a customer p12 that these are 12 points, whatever follows.
func pointsOf(customer string) (points int64) {
	_, _ = fmt.Sscanf(customer, "p%d", &points)
	return points
}

// TestEverywhereAgrees: each form decides of a thousand carts and of those at the bounds what the README says.
func TestEverywhereAgrees(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("the seed is %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	carts := edges()
	for range 1000 {
		carts = append(carts, random(r))
	}
	ask := func(_ context.Context, customer []byte) ([]byte, error) {
		return fmt.Append(nil, pointsOf(string(customer))), nil
	}
	everywhere(t, ask, func(t *testing.T, p *loader.Plugin) {
		assert.Contains(t, []string{"discount", "extism"}, p.Name(), "a plug-in of Extism's has its file's name")
		for _, c := range carts {
			in, err := json.Marshal(c)
			require.NoError(t, err)
			out, err := p.Call(t.Context(), before, in)
			require.NoError(t, err, "%s", in)
			var got Discount
			decoder := json.NewDecoder(bytes.NewReader(out))
			decoder.DisallowUnknownFields()
			require.NoError(t, decoder.Decode(&got), "%s", out)
			require.Equal(t, oracle(c, pointsOf(c.Customer)), got, "%s", in)
		}
	})
}

// TestEverywhereRefuses: what is no cart is the same error of each form, for which the host is asked nothing.
func TestEverywhereRefuses(t *testing.T) {
	const item = `{"name": "a", "category": "books", "cents": 1, "quantity": 1}`
	with := func(old, changed string) string {
		return strings.Replace(`{"customer": "p1", "coupon": "FIVE", "items": [`+item+`]}`, old, changed, 1)
	}
	faulty := []string{"", " ", "{", "null", "1", `"cart"`, "[]", "{}", "[" + with("", "") + "]", with("", "") + "x", with("", "\ufeff\ufeff"),
		with(`"p1"`, "null"), with(`"p1"`, "1"), with(`"p1"`, "\"\xff\""), with(`"customer"`, `"kunde"`), with(`"FIVE"`, `"SIX"`), with(`"FIVE"`, `"FIVE\u0000"`), with(`"FIVE"`, "5"), with(`"FIVE"`, "false"),
		with(`"FIVE"`, "[]"), with("["+item+"]", "null"), with("["+item+"]", "{}"), with("["+item+"]", `"items"`), with(`, "items": [`+item+`]`, ""), with(item, "null"), with(item, "[]"), with(item, "1"), with(item, "{}"),
		with(`"a"`, "null"), with(`"a"`, "1"), with(`"books"`, "null"), with(`"name": "a", `, ""), with(`, "quantity": 1`, ""), with(item, item+",")}
	for _, n := range []string{"-1", "0.5", "null", "true", `"1"`, "[1]", "{}", "01", "1e400", "NaN", "Infinity", "9007199254740992", "9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
		"18446744073709551616", "36893488147419103233", "1" + strings.Repeat("0", 5000)} {
		faulty = append(faulty, with(`"cents": 1`, `"cents": `+n), with(`"quantity": 1`, `"quantity": `+n))
	}
	for _, n := range [][2]int64{{mostCents, 2}, {2, mostCents}, {mostCents, mostCents}, {1 << 32, 1 << 32}, {1 << 31, 1 << 33}, {94906266, 94906266}, {3037000500, 3037000500}} {
		faulty = append(faulty, with(`"cents": 1, "quantity": 1`, fmt.Sprintf(`"cents": %d, "quantity": %d`, n[0], n[1])))
	}
	most := strings.Replace(item, `"cents": 1`, fmt.Sprint(`"cents": `, mostCents), 1)
	faulty = append(faulty, with(item, most+","+item), with(item, item+","+most), with(item, strings.Repeat(most+",", 2048)+most))

	var asked []string
	ask := func(_ context.Context, customer []byte) ([]byte, error) {
		asked = append(asked, string(customer))
		return []byte("0"), nil
	}
	everywhere(t, ask, func(t *testing.T, p *loader.Plugin) {
		asked = nil
		for _, in := range faulty {
			_, err := p.Call(t.Context(), before, []byte(in))
			assert.ErrorIs(t, err, loader.ErrInvalid, "%.300q", in)
			var failed *loader.CallError
			if assert.ErrorAs(t, err, &failed, "%.300q", in) {
				assert.NotEmpty(t, failed.Message, "%.300q", in)
			}
		}
		assert.Empty(t, asked)
		_, err := p.Call(t.Context(), before, []byte(with("", "")))
		assert.NoError(t, err)
		assert.Equal(t, []string{"p1"}, asked)
		for _, in := range []string{with(`"FIVE"`, "null"), with(`"coupon": "FIVE", `, ""), with(`"p1"`, `""`), with(`"a"`, `"a", "more": [{}]`)} {
			_, err := p.Call(t.Context(), before, []byte(in))
			assert.NoError(t, err, in)
		}
	})
}

// TestEverywhereAsks: what goes wrong at the host comes back through each form.
func TestEverywhereAsks(t *testing.T) {
	ask := func(context.Context, []byte) ([]byte, error) {
		return nil, fmt.Errorf("the points are being counted: %w", loader.ErrUnsupported)
	}
	in, err := json.Marshal(shown)
	require.NoError(t, err)
	everywhere(t, ask, func(t *testing.T, p *loader.Plugin) {
		_, err := p.Call(t.Context(), before, in)
		var failed *loader.CallError
		require.ErrorAs(t, err, &failed)
		assert.ErrorContains(t, err, "the points are being counted")
		out, err := p.Call(t.Context(), before, []byte(`{"customer": "", "items": []}`))
		require.NoError(t, err, "the plug-in goes on")
		assert.JSONEq(t, `{"cents": 0, "points": 0, "best": null}`, string(out))
	})
}

// TestEverywhereTable: the program prints the table that the README has, but for the times, and where it cannot have a form what is missing.
func TestEverywhereTable(t *testing.T) {
	fixture.Loadable(t)
	m, err := shop()
	require.NoError(t, err)
	watchSources(t, m)
	var out bytes.Buffer
	require.NoError(t, m.show(&out))
	want := oracle(shown, points[shown.Customer])
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, rows, 1+len(forms), "%s", &out)
	assert.Regexp(t, `^form +runs in +discount +points +best +time per call$`, rows[0])
	took := regexp.MustCompile(` +[0-9]+\.[0-9] µs$`)
	for i, f := range forms {
		row := rows[i+1]
		if strings.Contains(row, " is missing: ") {
			assert.Empty(t, os.Getenv("CI"), row)
			continue
		}
		require.Regexp(t, took, row)
		words := strings.Join(strings.Fields(took.ReplaceAllString(row, "")), " ")
		assert.Equal(t, fmt.Sprintf("%s %s $%d.%02d %d %s", f.name, f.runs, want.Cents/100, want.Cents%100, want.Points, *want.Best), words)
		assert.Contains(t, strings.Join(strings.Fields(string(text)), " "), words, "the README's table")
	}
}

// TestEverywhereREADME: the README's cart is decided of as it says.
func TestEverywhereREADME(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	lines := regexp.MustCompile(`(?m)^    (\{"customer.*)\n    (\{"cents.*)$`).FindSubmatch(text)
	require.NotNil(t, lines)
	var c Cart
	var d Discount
	require.NoError(t, json.Unmarshal(lines[1], &c))
	require.NoError(t, json.Unmarshal(lines[2], &d))
	assert.Equal(t, oracle(c, points[c.Customer]), d)
	everywhere(t, loyaltyPoints, func(t *testing.T, p *loader.Plugin) {
		out, err := p.Call(t.Context(), before, lines[1])
		require.NoError(t, err)
		assert.JSONEq(t, string(lines[2]), string(out))
	})
}

// TestEverywhereGenerated: what `ferrule gen` has written is what it writes.
func TestEverywhereGenerated(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", "../../cmd/ferrule", "gen", "--check", "discount").CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "discount 1.0.0: 1 function, 1 import\n", string(out))
}

// TestEverywhereMissing: a form that this machine has no compiler for has a row that says so, and the others are there.
func TestEverywhereMissing(t *testing.T) {
	fixture.Loadable(t)
	if runtime.GOOS == "windows" {
		t.Skip("there is no Python there")
	}
	for name, value := range map[string]string{"CC": "no-cc", "CXX": "no-c++", "CARGO": "no-cargo", "PYTHON_CONFIG": "no-python3-config"} {
		t.Setenv(name, value)
	}
	m, err := newMarket(t.Context()) // which has built nothing yet
	require.NoError(t, err)
	defer m.close()
	var out bytes.Buffer
	require.NoError(t, m.show(&out))
	for form, want := range map[string]string{"C": "no-cc is missing: apt-get install gcc", `C\+\+`: `no-c\+\+ is missing: apt-get install g\+\+`,
		"Rust": "no-cargo is missing: apt-get install cargo.*", "WebAssembly": "no-cargo is missing: .*", "Extism": "no-cargo is missing: .*",
		"Python": "no-cc is missing: apt-get install gcc", "Go, a library": "no-cc is missing: apt-get install gcc", "JavaScript": `\$57\.34 .* µs`,
		"Go": `\$57\.34 .* µs`, "Go, a module": `\$57\.34 .* µs`, "Go, a program": `\$57\.34 .* µs`, "Go, a node": `\$57\.34 .* µs`} {
		assert.Regexp(t, `(?m)^`+form+` {2,}[a-z][a-zA-Z ,]* {2,}`+want+`$`, out.String())
	}
	t.Setenv("CC", "sh")
	_, err = m.python()
	assert.EqualError(t, err, "no-python3-config is missing: apt-get install python3-dev")
}
