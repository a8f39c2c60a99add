package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/ferrule-dev/ferrule/abi"
)

// schema is a JSON Schema.
type schema map[string]any

// with returns a copy that has a key more.
func (s schema) with(key string, value any) schema {
	s = maps.Clone(s)
	s[key] = value
	return s
}

// A rule says what a value of the file may be, to the parser and in JSON Schema.
type rule[T any] struct {
	schema schema
	read   func(*reader, *node) T // what it returns beside a fault is of no use
}

// text is a text that is as the pattern says from end to end, and has limit characters at most, or any number where it is 0. remedy is
// for what was found, and may be nil.
func text(expected, pattern string, limit int, remedy func(string) string) rule[string] {
	whole := regexp.MustCompile("^(?:" + pattern + ")$")
	s := schema{"type": "string", "pattern": whole.String()}
	if limit > 0 {
		s["maxLength"] = limit
	}
	return rule[string]{s, func(r *reader, n *node) string {
		switch help := ""; {
		case n.text() && whole.MatchString(n.Value) && (limit == 0 || utf8.RuneCountInString(n.Value) <= limit):
		case n.Kind == yaml.ScalarNode && !n.text() && !n.null() && whole.MatchString(n.Value):
			r.fault(n, n.found()+", which is no text in YAML", expected, "Put it in quotes: '"+n.Value+"'")
		default:
			if remedy != nil && n.Kind == yaml.ScalarNode {
				help = remedy(n.Value)
			}
			r.fault(n, n.found(), expected, help)
		}
		return n.Value
	}}
}

// to makes another value of what a rule has read. It is not asked for one when there was a fault.
func to[T, V any](from rule[T], make func(*reader, *node, T) V) rule[V] {
	return rule[V]{from.schema, func(r *reader, n *node) (v V) {
		before := len(r.faults)
		if got := from.read(r, n); len(r.faults) == before {
			v = make(r, n, got)
		}
		return v
	}}
}

// word is one of several texts.
func word[T any](words []string, values map[string]T) rule[T] {
	return rule[T]{schema{"enum": words}, func(r *reader, n *node) T {
		v, ok := values[n.Value]
		if !ok || !n.text() {
			r.fault(n, n.found(), alternatives(words), didYouMean(n.Value, words))
		}
		return v
	}}
}

// didYouMean asks whether one of the candidates is meant, whatever the case of its letters and when the rest is missing, or is "".
func didYouMean(name string, candidates []string) string {
	i := slices.IndexFunc(candidates, func(c string) bool {
		return len(name) >= 3 && len(name) <= len(c) && strings.EqualFold(c[:len(name)], name)
	})
	if i >= 0 {
		return "Did you mean " + candidates[i] + "?"
	}
	if near := abi.Nearest(name, candidates); near != "" {
		return "Did you mean " + near + "?"
	}
	return ""
}

// boolean is true or false.
func boolean() rule[bool] {
	return rule[bool]{schema{"type": "boolean"}, func(r *reader, n *node) bool {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			help := ""
			switch strings.ToLower(n.Value) {
			case "yes", "on", "y":
				help = "Write true"
			case "no", "off", "n":
				help = "Write false"
			case "true", "false":
				help = "Leave out the quotes"
			}
			r.fault(n, n.found(), "true or false", help)
		}
		return strings.EqualFold(n.Value, "true")
	}}
}

var decimal = regexp.MustCompile(`^-?(?:0|[1-9][0-9]{0,17})$`)

// integer is a number from low to high.
func integer(expected string, low, high int64) rule[int64] {
	return rule[int64]{schema{"type": "integer", "minimum": low, "maximum": high}, func(r *reader, n *node) (v int64) {
		ok := n.Kind == yaml.ScalarNode && n.Tag == "!!int" && decimal.MatchString(n.Value)
		if ok {
			v = number(n.Value)
		}
		if !ok || v < low || v > high {
			help := ""
			if n.text() && decimal.MatchString(n.Value) {
				help = "Leave out the quotes"
			}
			r.fault(n, n.found(), expected, help)
		}
		return v
	}}
}

// list is a list; nothing at all is an empty one. No text or number stands in it twice.
func list[T any](expected string, item rule[T]) rule[[]T] {
	all := items(expected, item)
	return rule[[]T]{all.schema, func(r *reader, n *node) []T {
		seen := map[string]bool{}
		for _, i := range n.items {
			if i.Kind == yaml.ScalarNode && seen[i.Value] && !i.null() {
				r.fault(i, quote(i.Value)+" a second time", "each once", "Remove one of the two")
			}
			seen[i.Value] = true
		}
		return all.read(r, n)
	}}
}

// items is a list in which the parser lets anything stand twice.
func items[T any](expected string, item rule[T]) rule[[]T] {
	s := schema{"type": []string{"array", "null"}, "items": item.schema, "uniqueItems": true}
	return rule[[]T]{s, func(r *reader, n *node) (all []T) {
		switch {
		case n.null():
		case n.Kind == yaml.SequenceNode:
			for _, i := range n.items {
				all = append(all, item.read(r, i))
			}
		case n.text():
			r.fault(n, n.found(), expected, "Put it in brackets: ["+n.Value+"]")
		default:
			r.fault(n, n.found(), expected, "")
		}
		return all
	}}
}

// table is a mapping whose keys are for the user to choose; nothing at all is an empty one.
func table[V any](expected string, name rule[string], value rule[V]) rule[map[string]V] {
	s := schema{"type": []string{"object", "null"}, "propertyNames": name.schema, "additionalProperties": value.schema}
	return rule[map[string]V]{s, func(r *reader, n *node) map[string]V {
		if n.null() {
			return nil
		}
		if n.Kind != yaml.MappingNode {
			r.fault(n, n.found(), expected, "")
			return nil
		}
		all := make(map[string]V, len(n.items))
		for _, i := range n.items {
			key := *i.key
			key.Tag = "!!str"
			all[name.read(r, &node{Node: &key, parent: n.parent, key: n.key, index: n.index})] = value.read(r, i)
		}
		return all
	}}
}

// field is a key of a mapping.
type field[T any] struct {
	name     string
	schema   schema
	required bool
	read     func(*reader, *node, *T)
}

// key is a field whose value at says where to put.
func key[T, V any](name, doc string, value rule[V], at func(*T) *V) field[T] {
	return field[T]{name, value.schema.with("description", doc), false, func(r *reader, n *node, t *T) { *at(t) = value.read(r, n) }}
}

// mapping is a mapping with these keys and no others. What it does not say is as in initial.
func mapping[T any](expected string, initial T, fields ...field[T]) rule[T] {
	var names, required []string
	properties := schema{}
	for _, f := range fields {
		names = append(names, f.name)
		properties[f.name] = f.schema
		if f.required {
			required = append(required, f.name)
		}
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if required != nil {
		s["required"] = required
	}
	return rule[T]{s, func(r *reader, n *node) T {
		t := initial
		if n.Kind != yaml.MappingNode {
			r.fault(n, n.found(), expected, "")
			return t
		}
		for _, i := range n.items {
			at := slices.Index(names, i.key.Value)
			if at < 0 {
				key := &node{Node: i.key, parent: i.parent, key: i.key}
				r.fault(key, "the unknown key "+quote(i.key.Value), alternatives(names), didYouMean(i.key.Value, names))
				continue
			}
			fields[at].read(r, i, &t)
		}
		for _, name := range required {
			if n.get(name) == nil {
				r.fault(n, "no "+name, expected, "Add "+name+":")
			}
		}
		return t
	}}
}

// maybe is a mapping that may be nothing at all, which is as good as one without keys.
func maybe[T any](initial T, of rule[T]) rule[T] {
	return rule[T]{of.schema.with("type", []string{"object", "null"}), func(r *reader, n *node) T {
		if n.null() {
			return initial
		}
		return of.read(r, n)
	}}
}
