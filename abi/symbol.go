package abi

import "strings"

// The symbols of the contract (rule R2). Names that start with a prefix below end in a C identifier.
const (
	SymbolPrefix   = "ferrule_" // every exported name that starts so is the contract's
	SymbolManifest = "ferrule_manifest"
	SymbolStart    = "ferrule_start"
	SymbolStop     = "ferrule_stop"
	SymbolBatch    = "ferrule_batch"

	SymbolConfigure  = "ferrule_configure"
	SymbolSave       = "ferrule_save"
	SymbolResume     = "ferrule_resume"
	SymbolConfigMeta = "ferrule_meta_config"

	PrefixFunc   = "ferrule_fn_"
	PrefixHook   = "ferrule_hook_"
	PrefixImport = "ferrule_import_"
	PrefixWant   = "ferrule_want_"

	PrefixFuncMeta   = "ferrule_meta_fn_"
	PrefixHookMeta   = "ferrule_meta_hook_"
	PrefixImportMeta = "ferrule_meta_import_"
	PrefixWantMeta   = "ferrule_meta_want_"
)

// MaxName is the longest name of a function, hook or import, in bytes (rule R2).
const MaxName = 128

// SymbolKind says what an exported symbol is to the contract.
type SymbolKind uint8

// The kinds of symbols.
const (
	KindOther      SymbolKind = iota // not the contract's: it does not start with ferrule_
	KindReserved                     // starts with ferrule_ and is none of the below
	KindManifest                     // ferrule_manifest
	KindFunc                         // ferrule_fn_<name>
	KindHook                         // ferrule_hook_<point>
	KindImport                       // ferrule_import_<name>
	KindFuncMeta                     // ferrule_meta_fn_<name>
	KindHookMeta                     // ferrule_meta_hook_<point>
	KindImportMeta                   // ferrule_meta_import_<name>
	KindStart                        // ferrule_start
	KindStop                         // ferrule_stop
	KindBatch                        // ferrule_batch
	KindWant                         // ferrule_want_<name>
	KindWantMeta                     // ferrule_meta_want_<name>
	KindConfigMeta                   // ferrule_meta_config
	KindConfigure                    // ferrule_configure
	KindSave                         // ferrule_save
	KindResume                       // ferrule_resume
	KindOtherMajor                   // ferrule<number>_manifest, the manifest of another major version
)

var prefixes = [...]struct {
	prefix string
	kind   SymbolKind
}{
	{PrefixFunc, KindFunc}, {PrefixHook, KindHook}, {PrefixImport, KindImport},
	{PrefixWant, KindWant},
	{PrefixFuncMeta, KindFuncMeta}, {PrefixHookMeta, KindHookMeta}, {PrefixImportMeta, KindImportMeta},
	{PrefixWantMeta, KindWantMeta},
}

// ParseSymbol says what an exported symbol, without the underscore that Mach-O puts before it, is to the contract, and
// which name it carries. The name is not checked: see ValidName.
func ParseSymbol(symbol string) (kind SymbolKind, name string) {
	if !strings.HasPrefix(symbol, SymbolPrefix) {
		if number, ok := strings.CutPrefix(symbol, "ferrule"); ok {
			if number, ok = strings.CutSuffix(number, "_manifest"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
				return KindOtherMajor, ""
			}
		}
		return KindOther, ""
	}
	switch symbol {
	case SymbolManifest:
		return KindManifest, ""
	case SymbolStart:
		return KindStart, ""
	case SymbolStop:
		return KindStop, ""
	case SymbolBatch:
		return KindBatch, ""
	case SymbolConfigure:
		return KindConfigure, ""
	case SymbolSave:
		return KindSave, ""
	case SymbolResume:
		return KindResume, ""
	case SymbolConfigMeta:
		return KindConfigMeta, ""
	}
	for _, p := range prefixes {
		if name, ok := strings.CutPrefix(symbol, p.prefix); ok {
			return p.kind, name
		}
	}
	return KindReserved, ""
}

// ValidName reports whether name may name a function, a hook or an import: a C identifier of 1 to MaxName bytes.
func ValidName(name string) bool {
	if len(name) == 0 || len(name) > MaxName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !(c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}
