package settings

import (
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxWork is how many pairs of a schema and a value are looked at for one plug-in's settings. Some thousand are many.
const maxWork = 1_000_000

// work counts what a validation looks at, at most: twenty schemas that each name the next one twice are looked at a million times, and a
// plug-in that is not trusted brings its schema along. What the count itself does is bounded by the number of different pairs.
type work struct {
	known map[pair]int
	pairs int
}

type pair struct {
	schema *jsonschema.Schema
	path   string
}

// tooMuch reports whether the validation of a value would take too long.
func tooMuch(schema *jsonschema.Schema, value any) bool {
	w := &work{known: map[pair]int{}}
	return w.of(schema, value, "") >= maxWork
}

// of returns how much is looked at for a value at a path, or maxWork where it is more. A pair that is being counted is 0: the validator
// finds such circles.
func (w *work) of(s *jsonschema.Schema, value any, path string) int {
	if s == nil {
		return 0
	}
	at := pair{s, path}
	if n, ok := w.known[at]; ok {
		return n
	}
	if w.pairs++; w.pairs > maxWork {
		return maxWork
	}
	w.known[at] = 0
	n := 1
	add := func(s *jsonschema.Schema, value any, path string) {
		if n < maxWork {
			n = min(maxWork, n+w.of(s, value, path))
		}
	}
	for _, same := range [][]*jsonschema.Schema{{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else, s.ContentSchema}, s.AllOf, s.AnyOf, s.OneOf} {
		for _, in := range same {
			add(in, value, path)
		}
	}
	if s.DynamicRef != nil {
		add(s.DynamicRef.Ref, value, path)
	}
	for _, in := range s.DependentSchemas {
		add(in, value, path)
	}
	for _, in := range s.Dependencies {
		in, _ := in.(*jsonschema.Schema)
		add(in, value, path)
	}
	additional, _ := s.AdditionalProperties.(*jsonschema.Schema)
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			below := path + "/" + strconv.Quote(key)
			add(s.Properties[key], item, below)
			for _, in := range s.PatternProperties {
				add(in, item, below)
			}
			add(additional, item, below)
			add(s.UnevaluatedProperties, item, below)
			add(s.PropertyNames, key, below+"=")
		}
	case []any:
		for i, item := range v {
			below := path + "/" + strconv.Itoa(i)
			for _, items := range []any{s.Items, s.AdditionalItems} {
				switch items := items.(type) {
				case *jsonschema.Schema:
					add(items, item, below)
				case []*jsonschema.Schema:
					if i < len(items) {
						add(items[i], item, below)
					}
				}
			}
			if i < len(s.PrefixItems) {
				add(s.PrefixItems[i], item, below)
			}
			for _, in := range []*jsonschema.Schema{s.Items2020, s.Contains, s.UnevaluatedItems} {
				add(in, item, below)
			}
		}
	}
	w.known[at] = n
	return n
}
