package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	neturl "net/url"
	"runtime/debug"
	"strings"
	"time"
)

// The part of CycloneDX 1.5 that the bill of a Go program needs.
type (
	bill struct {
		BOMFormat    string        `json:"bomFormat"`
		SpecVersion  string        `json:"specVersion"`
		SerialNumber string        `json:"serialNumber"`
		Version      int           `json:"version"`
		Metadata     metadata      `json:"metadata"`
		Components   []component   `json:"components"`
		Compositions []composition `json:"compositions"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	composition struct {
		Aggregate  string   `json:"aggregate"`
		Assemblies []string `json:"assemblies"`
	}
)

// materials is the bill of a program, from what Go has written into it: its modules and Go's own library. It says nothing of which
// of them needs which, since the program does not.
func materials(info *debug.BuildInfo, platform string, sum [32]byte, when time.Time) ([]byte, error) {
	if info.Main.Version == "" || info.Main.Version == "(devel)" {
		return nil, errors.New("the program's build information has no version of its module: build it by go install PATH@VERSION")
	}
	of := func(kind, path, version string) component {
		purl := "pkg:golang/" + path + "@" + neturl.PathEscape(version)
		return component{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
	}
	program := of("application", info.Path, info.Main.Version)
	program.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum[:])}}
	program.Properties = []property{{"platform", platform}}
	b := bill{BOMFormat: "CycloneDX", SpecVersion: "1.5", Version: 1,
		SerialNumber: uuid(sum),
		Metadata:     metadata{when.UTC().Format(time.RFC3339), program},
		Compositions: []composition{{"complete", []string{program.Ref}}}}
	b.Components = append(b.Components, of("library", "std", strings.TrimPrefix(info.GoVersion, "go")))
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, fmt.Errorf("the program has %s in place of %s, which only a checkout's go.mod or go.work can have done", m.Replace.Path, m.Path)
		}
		c := of("library", m.Path, m.Version)
		c.Properties = []property{{"go.sum", m.Sum}}
		b.Components = append(b.Components, c)
	}
	text, err := json.MarshalIndent(b, "", "  ")
	return append(text, '\n'), err
}

// uuid is a number of the kind 8 of RFC 9562, whose bits are whoever makes it's own.
func uuid(sum [32]byte) string {
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
