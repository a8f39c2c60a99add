package settings

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
)

// MaxSchema is how long a schema may be, in bytes (rule R32).
const MaxSchema = 1 << 20

// here is the address of a plug-in's schema; nothing is at it.
const here = "plugin:///config-schema"

// nothing is loaded: what a plug-in names is not for its host to fetch.
type nothing struct{}

func (nothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s, and no other schema is loaded", strconv.Quote(url))
}

// compile returns a schema, or nil for "".
func compile(text string) (*jsonschema.Schema, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > MaxSchema {
		return nil, fmt.Errorf("found %s, expected %d at most", sentence.Count(len(text), "byte"), MaxSchema)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if n, found := findOutsized(document); found {
		return nil, fmt.Errorf("found the number %.40s, expected %s", n, sized)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nothing{})
	if err := c.AddResource(here, document); err != nil {
		return nil, err
	}
	var schema *jsonschema.Schema
	err = guarded(func() (err error) {
		schema, err = c.Compile(here)
		return err
	})
	return schema, err
}

// validate adds a fault for all that is not as the schema says. An error is about the schema.
func (r *resolver) validate(schema *jsonschema.Schema, text string, value any) error {
	err := guarded(func() error { return schema.Validate(value) })
	if err == nil {
		return nil
	}
	failure, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	for _, leaf := range leaves(failure) {
		if circle, ok := leaf.ErrorKind.(*kind.RefCycle); ok {
			return fmt.Errorf("a $ref leads back to itself (%s)", strings.TrimPrefix(circle.KeywordLocation1, here))
		}
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	r.explain(failure, document, value)
	return nil
}

// explain adds the faults of a failure. document is the schema.
func (r *resolver) explain(e *jsonschema.ValidationError, document, value any) {
	at := e.InstanceLocation
	found := describe(lookup(value, at))
	switch k := e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		if len(e.Causes) > 0 {
			r.alternatives(e, document, value)
			return
		}
		r.fault(at, found+" that is right in several ways", "one way", "")
	case *kind.Required:
		for _, name := range k.Missing {
			r.fault(at, "no "+strconv.Quote(name), "the keys that the plug-in needs", "Add "+show(name)+":")
		}
	case *kind.DependentRequired:
		for _, name := range k.Missing {
			r.fault(at, "no "+strconv.Quote(name), "it where "+strconv.Quote(k.Prop)+" is", "Add "+show(name)+":")
		}
	case *kind.Dependency:
		for _, name := range k.Missing {
			r.fault(at, "no "+strconv.Quote(name), "it where "+strconv.Quote(k.Prop)+" is", "Add "+show(name)+":")
		}
	case *kind.AdditionalProperties:
		names := properties(document, e.SchemaURL)
		expected := "no other keys"
		if len(names) > 0 {
			expected = list(names)
		}
		for _, name := range slices.Sorted(slices.Values(k.Properties)) {
			remedy := ""
			if near := abi.Nearest(name, names); near != "" {
				remedy = "Did you mean " + show(near) + "?"
			}
			r.fault(append(slices.Clone(at), name), "an unknown key", expected, remedy)
		}
	case *kind.PropertyNames:
		r.fault(append(slices.Clone(at), k.Property), "a key that is not allowed", "other names of keys", "")
	case *kind.FalseSchema:
		r.fault(at, found, "nothing there", "Remove it")
	default:
		if len(e.Causes) > 0 {
			for _, cause := range e.Causes {
				r.explain(cause, document, value)
			}
			return
		}
		r.fault(at, found, expected(e.ErrorKind), "")
	}
}

// alternatives explains why a value is as none of several schemas says: by the one that it comes nearest to, where that can be told.
func (r *resolver) alternatives(e *jsonschema.ValidationError, document, value any) {
	best, deepest := 0, 0
	var wants []string
	for i, cause := range e.Causes {
		if d := depth(cause); d > deepest {
			best, deepest = i, d
		}
		for _, leaf := range leaves(cause) {
			if len(leaf.InstanceLocation) == len(e.InstanceLocation) {
				if want := expected(leaf.ErrorKind); !slices.Contains(wants, want) {
					wants = append(wants, want)
				}
			}
		}
	}
	if deepest > len(e.InstanceLocation) {
		r.explain(e.Causes[best], document, value)
		return
	}
	r.fault(e.InstanceLocation, describe(lookup(value, e.InstanceLocation)), strings.Join(wants, ", or "), "")
}

func leaves(e *jsonschema.ValidationError) (all []*jsonschema.ValidationError) {
	if len(e.Causes) == 0 {
		return []*jsonschema.ValidationError{e}
	}
	for _, cause := range e.Causes {
		all = append(all, leaves(cause)...)
	}
	return all
}

// depth is how deep in the settings the first fault is that a failure is made of.
func depth(e *jsonschema.ValidationError) (deepest int) {
	for _, leaf := range leaves(e) {
		n := len(leaf.InstanceLocation)
		switch leaf.ErrorKind.(type) {
		case *kind.Required, *kind.AdditionalProperties: // a mapping, and nearly the right one
			n++
		}
		deepest = max(deepest, n)
	}
	return deepest
}

// expected says what a keyword of the schema asks for.
func expected(of jsonschema.ErrorKind) string {
	switch k := of.(type) {
	case *kind.Type:
		words := map[string]string{"string": "a text", "integer": "an integer", "number": "a number", "boolean": "true or false", "array": "a list", "object": "a mapping", "null": "nothing"}
		var all []string
		for _, name := range k.Want {
			all = append(all, words[name])
		}
		return strings.Join(all, ", or ")
	case *kind.Enum:
		var all []string
		for _, want := range k.Want {
			all = append(all, fmt.Sprint(want))
		}
		return list(all)
	case *kind.Const:
		return list([]string{fmt.Sprint(k.Want)})
	case *kind.Format:
		return fmt.Sprintf("a text of the format %.60q", k.Want)
	case *kind.Pattern:
		return fmt.Sprintf("a text that %.120q matches", k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("%s or more", sentence.Count(k.Want, "character"))
	case *kind.MaxLength:
		return fmt.Sprintf("%s at most", sentence.Count(k.Want, "character"))
	case *kind.MinItems:
		return fmt.Sprintf("%s or more", sentence.Count(k.Want, "item"))
	case *kind.MaxItems:
		return fmt.Sprintf("%s at most", sentence.Count(k.Want, "item"))
	case *kind.MinProperties:
		return fmt.Sprintf("%s or more", sentence.Count(k.Want, "key"))
	case *kind.MaxProperties:
		return fmt.Sprintf("%s at most", sentence.Count(k.Want, "key"))
	case *kind.Minimum:
		return rational(k.Want) + " or more"
	case *kind.Maximum:
		return rational(k.Want) + " at most"
	case *kind.ExclusiveMinimum:
		return "more than " + rational(k.Want)
	case *kind.ExclusiveMaximum:
		return "less than " + rational(k.Want)
	case *kind.MultipleOf:
		return "a multiple of " + rational(k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf("each item once (%d and %d are the same)", k.Duplicates[0], k.Duplicates[1])
	case *kind.Required:
		return "a mapping with " + list(k.Missing)
	case *kind.AdditionalItems:
		return "fewer items"
	case *kind.Not:
		return "what the plug-in's schema does not exclude"
	}
	return "what the plug-in's schema says"
}

// rational is a number as one writes it.
func rational(r *big.Rat) string {
	f, exact := r.Float64()
	if r.IsInt() {
		return fmt.Sprintf("%.40s", r.Num().String())
	} else if exact || r.Denom().IsInt64() {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return fmt.Sprintf("%.40s", r.RatString())
}

// describe says what kind of value is found: never which one.
func describe(value any) string {
	switch value.(type) {
	case nil:
		return "nothing"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "a mapping"
	}
	return "a number"
}

// lookup returns the value at a path, or nil.
func lookup(value any, path []string) any {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// properties returns the keys that the schema at an address names.
func properties(document any, url string) (names []string) {
	_, pointer, _ := strings.Cut(url, "#")
	var path []string
	for _, step := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		if step != "" {
			path = append(path, strings.NewReplacer("~1", "/", "~0", "~", "%25", "%").Replace(step))
		}
	}
	at, _ := lookup(document, path).(map[string]any)
	keys, _ := at["properties"].(map[string]any)
	for name := range keys {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// list is words in an error, escaped and cut to what a line bears.
func list(words []string) string {
	words = slices.Clone(words)
	const most = 12
	if len(words) > most {
		words = append(words[:most], sentence.Count(len(words)-most, "other"))
	}
	for i := range words {
		words[i] = show(fmt.Sprintf("%.60s", words[i]))
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
