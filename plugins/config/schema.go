package config

import "encoding/json"

// Schema returns the JSON Schema (draft 7) of config.yaml, for editors, made of what Parse goes by. What Parse takes is valid by it.
// It cannot say that no two plug-ins have one name, which ranges of versions there are, and which numbers overflow. It is the caller's.
func Schema() []byte {
	s := file.schema.with("$schema", "http://json-schema.org/draft-07/schema#").with("title", "config.yaml of an application with plug-ins")
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // the table has texts, numbers, lists and mappings
	}
	return append(text, '\n')
}
