package web

import (
	"encoding/json"
	"strings"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// object is one of JSON.
type object = map[string]any

// describe describes the paths of a plug-in in OpenAPI 3.1, by what its functions say of themselves. streams says which of them work on streams.
func describe(about *abi.Description, o Options, streams func(kind int, name string) bool) ([]byte, error) {
	info := object{"title": about.Manifest.Name, "version": about.Manifest.Version}
	if about.Manifest.Description != "" {
		info["description"] = about.Manifest.Description
	}
	if license := about.Manifest.Keys.Get("license"); license != "" {
		info["license"] = object{"name": license}
	}
	paths := object{}
	tags := []object{{"name": "fn", "description": "The plug-in's functions"}, {"name": "hook", "description": "Its hooks, by their extension points"},
		{"name": "ferrule", "description": "What the server says"}}
	for i, symbols := range [][]abi.Symbol{about.Funcs, about.Hooks} {
		kind := [...]string{"fn", "hook"}[i]
		for _, s := range symbols {
			post := operation(about.Manifest.Name, kind, &s)
			if streams(i, s.Name) {
				said, _ := post["description"].(string)
				post["description"] = strings.TrimSpace(said + "\n\nIt " + noStreams + ". What it cannot do without is answered with 422, and the Ferrule-Status 3.")
			}
			paths["/"+kind+"/"+s.Name] = object{"post": post}
		}
	}
	for _, read := range []struct {
		path, says string
		content    object
	}{{"manifest", "What the plug-in says of itself", object{typeJSON: object{"schema": object{"type": "object"}}}},
		{"openapi.json", "This description", object{typeJSON: object{"schema": object{"type": "object"}}}},
		{"metrics", "Calls and their times, in the text format of Prometheus", object{"text/plain": object{"schema": object{"type": "string"}}}},
		{"health", "Whether calls are taken", object{"text/plain": object{"schema": object{"type": "string"}}}}} {
		responses := object{"200": object{"description": read.says, "content": read.content}, "401": reference("Unauthorized")}
		op := object{"operationId": "ferrule." + read.path, "tags": []string{"ferrule"}, "summary": read.says, "responses": responses}
		if read.path == "health" {
			delete(responses, "401")
			responses["503"] = message("No calls are taken any more")
			op["security"] = []object{} // none is asked for
		}
		paths["/ferrule/"+read.path] = object{"get": op}
	}
	components := object{"responses": object{
		"Unauthorized": message("The token is wrong or missing"),
		"TooLong":      message("The input has more than " + count.Of(o.MaxBody, "byte")),
		"WrongType":    message("The body has another type than the function takes"),
		"Cancelled":    message("The call was cancelled, or its Ferrule-Timeout was over"),
		"Busy":         message("There are as many calls as there may be, or the server ends"),
		"Failed": object{"description": "The function has another status than success, and this message", "content": textContent(),
			"headers": object{"Ferrule-Status": object{"required": true, "description": "1 failed, 2 wrong input, 3 unsupported, 5 panic, 6 out of memory, 7 misuse, 9 nothing to say; from 1000 on the plug-in's own",
				"schema": object{"type": "integer", "minimum": 1}}}},
	}, "parameters": object{
		"Timeout": object{"name": "Ferrule-Timeout", "in": "header", "description": "How many milliseconds the call may take; 0 is as without it", "schema": object{"type": "integer", "minimum": 0}},
	}}
	all := object{"openapi": "3.1.0", "info": info, "tags": tags, "paths": paths, "components": components}
	if o.Token != "" {
		components["securitySchemes"] = object{"token": object{"type": "http", "scheme": "bearer"}}
		all["security"] = []object{{"token": []string{}}}
	}
	return text(all)
}

// operation describes the call of a function or a hook.
func operation(plugin, kind string, s *abi.Symbol) object {
	op := object{"operationId": kind + "." + s.Name, "tags": []string{kind}, "parameters": []object{{"$ref": "#/components/parameters/Timeout"}}}
	doc := strings.TrimSpace(s.Doc)
	if doc != "" {
		op["summary"], _, _ = strings.Cut(doc, "\n")
		op["description"] = doc
	}
	if why, ok := keyOf(s, "deprecated"); ok {
		op["deprecated"] = true
		if why != "" {
			op["description"] = strings.TrimSpace(doc + "\n\nDeprecated: " + why)
		}
	}
	// The key schema is of the input or the output; those of one alone come first.
	schema := func(side string) any {
		if said, ok := keyOf(s, side+"-schema"); ok {
			return schemaOf(said, "urn:ferrule:"+plugin+":"+kind+":"+s.Name+":"+side)
		}
		if side == "in" {
			return schemaOf(s.Schema, "urn:ferrule:"+plugin+":"+kind+":"+s.Name)
		}
		return nil
	}
	in := object{typeBytes: object{}}
	in[mediaType(s.In)] = content(schema("in"))
	op["requestBody"] = object{"required": true, "description": "The input", "content": in}
	op["responses"] = object{
		"200": object{"description": "The output", "content": object{mediaType(s.Out): content(schema("out"))}},
		"401": reference("Unauthorized"), "413": reference("TooLong"), "415": reference("WrongType"), "422": reference("Failed"),
		"499": reference("Cancelled"), "503": reference("Busy"),
	}
	return op
}

// keyOf returns what a function's meta text says at a key.
func keyOf(s *abi.Symbol, key string) (string, bool) {
	for _, kv := range s.Keys {
		if kv.Key == key {
			return kv.Value, true
		}
	}
	return "", false
}

// schemaOf is a text as a schema, where it is one of JSON; nil otherwise. References in it are to itself, so it has a name of its own where it has none.
func schemaOf(text, name string) any {
	var schema object
	if json.Unmarshal([]byte(text), &schema) != nil || schema == nil {
		return nil
	}
	if _, named := schema["$id"]; !named && strings.Contains(text, `"$ref"`) {
		schema["$id"] = name
	}
	return schema
}

func content(schema any) object {
	if schema == nil {
		return object{}
	}
	return object{"schema": schema}
}

func textContent() object { return object{"text/plain": object{"schema": object{"type": "string"}}} }

func message(says string) object { return object{"description": says, "content": textContent()} }

func reference(name string) object { return object{"$ref": "#/components/responses/" + name} }
