package abi_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/abi"
)

func TestParseSymbol(t *testing.T) {
	for _, c := range []struct {
		symbol string
		kind   abi.SymbolKind
		name   string
	}{
		{"", abi.KindOther, ""},
		{"main", abi.KindOther, ""},
		{"ferrule", abi.KindOther, ""},
		{"_ferrule_manifest", abi.KindOther, ""}, // the caller takes Mach-O's underscore away
		{"Ferrule_manifest", abi.KindOther, ""},
		{"ferrule_", abi.KindReserved, ""},
		{"ferrule_future", abi.KindReserved, ""},
		{"ferrule_manifest2", abi.KindReserved, ""},
		{"ferrule_fn", abi.KindReserved, ""},
		{"ferrule_meta_x", abi.KindReserved, ""},
		{"ferrule_meta_start", abi.KindReserved, ""},
		{"ferrule_manifest", abi.KindManifest, ""},
		{"ferrule_start", abi.KindStart, ""},
		{"ferrule_stop", abi.KindStop, ""},
		{"ferrule_batch", abi.KindBatch, ""},
		{"ferrule_fn_count", abi.KindFunc, "count"},
		{"ferrule_fn_", abi.KindFunc, ""},
		{"ferrule_fn_fn_x", abi.KindFunc, "fn_x"},
		{"ferrule_hook_before", abi.KindHook, "before"},
		{"ferrule_import_points", abi.KindImport, "points"},
		{"ferrule_meta_fn_count", abi.KindFuncMeta, "count"},
		{"ferrule_meta_hook_before", abi.KindHookMeta, "before"},
		{"ferrule_meta_import_points", abi.KindImportMeta, "points"},
		{"ferrule_want_points", abi.KindWant, "points"},
		{"ferrule_meta_want_points", abi.KindWantMeta, "points"},
		{"ferrule_meta_config", abi.KindConfigMeta, ""},
		{"ferrule_configure", abi.KindConfigure, ""},
		{"ferrule_save", abi.KindSave, ""},
		{"ferrule_resume", abi.KindResume, ""},
		{"ferrule2_manifest", abi.KindOtherMajor, ""},
		{"ferrule10_manifest", abi.KindOtherMajor, ""},
		{"ferrulex_manifest", abi.KindOther, ""},
		{"ferrule2_fn_count", abi.KindOther, ""},
	} {
		kind, name := abi.ParseSymbol(c.symbol)
		require.Equal(t, c.kind, kind, c.symbol)
		require.Equal(t, c.name, name, c.symbol)
	}
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"a", "Z", "_", "a1", "_1", "count_vowels", strings.Repeat("n", abi.MaxName)} {
		require.True(t, abi.ValidName(name), name)
	}
	for _, name := range []string{"", "1", "1a", "a-b", "a.b", "a b", "ä", "a\x00", "@", "[", "`", "{", "a@V1",
		strings.Repeat("n", abi.MaxName+1)} {
		require.False(t, abi.ValidName(name), name)
	}
}

// FuzzParseSymbol: the kinds and the names partition all strings, and a name is valid as C has identifiers.
func FuzzParseSymbol(f *testing.F) {
	for _, seed := range []string{"", "main", "ferrule_meta_import_9"} {
		f.Add(seed)
	}
	// Every kind there is, of which what a symbol is written as begins with this.
	prefixes := map[abi.SymbolKind]string{abi.KindOther: "", abi.KindReserved: abi.SymbolPrefix, abi.KindOtherMajor: "ferrule",
		abi.KindManifest: abi.SymbolManifest, abi.KindStart: abi.SymbolStart, abi.KindStop: abi.SymbolStop,
		abi.KindBatch: abi.SymbolBatch, abi.KindConfigure: abi.SymbolConfigure, abi.KindSave: abi.SymbolSave,
		abi.KindResume: abi.SymbolResume, abi.KindConfigMeta: abi.SymbolConfigMeta, abi.KindFunc: abi.PrefixFunc,
		abi.KindHook: abi.PrefixHook, abi.KindImport: abi.PrefixImport, abi.KindWant: abi.PrefixWant,
		abi.KindFuncMeta: abi.PrefixFuncMeta, abi.KindHookMeta: abi.PrefixHookMeta, abi.KindImportMeta: abi.PrefixImportMeta,
		abi.KindWantMeta: abi.PrefixWantMeta}
	for kind, prefix := range prefixes {
		f.Add(prefix)
		f.Add(prefix + "a")
		if kind == abi.KindOtherMajor {
			f.Add(prefix + "2_manifest")
		}
	}
	otherMajor := regexp.MustCompile(`\Aferrule[0-9]+_manifest\z`)
	identifier := regexp.MustCompile(`\A[A-Za-z_][A-Za-z0-9_]{0,127}\z`)
	f.Fuzz(func(t *testing.T, symbol string) {
		kind, name := abi.ParseSymbol(symbol)
		prefix, known := prefixes[kind]
		switch {
		case !known || !strings.HasPrefix(symbol, prefix):
			t.Fatalf("%q is of kind %d", symbol, kind)
		case kind == abi.KindOther && strings.HasPrefix(symbol, abi.SymbolPrefix):
			t.Fatalf("%q is nobody's", symbol)
		case (kind == abi.KindOtherMajor) != otherMajor.MatchString(symbol):
			t.Fatalf("%q is of kind %d", symbol, kind)
		case kind != abi.KindOther && kind != abi.KindReserved && kind != abi.KindOtherMajor && symbol != prefix+name:
			t.Fatalf("%q has the name %q", symbol, name)
		case kind <= abi.KindReserved && name != "":
			t.Fatalf("%q has the name %q", symbol, name)
		}
		if abi.ValidName(name) != identifier.MatchString(name) {
			t.Fatalf("%q", name)
		}
	})
}
