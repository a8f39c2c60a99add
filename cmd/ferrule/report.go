package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/gen"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/monitor"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// errorDetails are an error's parts, for --json. They grow only.
type errorDetails struct {
	Kind     string `json:"kind,omitempty"`
	Plugin   string `json:"plugin,omitempty"`
	Function string `json:"function,omitempty"`
	Symbol   string `json:"symbol,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Found    string `json:"found,omitempty"`
	Expected string `json:"expected,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
	Text     string `json:"text"`

	// Of a crash, and of a time that is over.
	Stage     stage    `json:"stage,omitempty"`
	Signal    string   `json:"signal,omitempty"`
	ExitCode  *int     `json:"exit_code,omitempty"`
	Fault     string   `json:"fault,omitempty"`
	LastLines []string `json:"last_lines,omitempty"`
	Attempt   int      `json:"attempt,omitempty"`
}

// wrongLine is the kind of every error of the command line.
const wrongLine = "the command line is wrong"

// notAPlugin is the kind of every error of a Go package that is to be a plug-in.
const notAPlugin = "the Go package is not as a plug-in has to be"

// detailsOf takes an error apart.
func detailsOf(err error) *errorDetails {
	d := &errorDetails{Text: err.Error()}
	var line *wrong
	var open *loader.OpenError
	var contract *loader.ContractError
	var use *loader.UsageError
	var call *loader.CallError
	var crash *loader.CrashError
	var late *loader.DeadlineError
	var guarded *fate
	var faulty *config.Error
	var release *registry.Error
	var host *monitor.Error
	var source *gen.Fault
	var unready *gen.Unready
	if remedied := new(remedied); errors.As(err, &remedied) {
		d.Remedy = remedied.remedy
	}
	switch {
	case errors.As(err, &guarded):
		d.Kind, d.Plugin, d.Function, d.Remedy = guarded.kind, guarded.plugin, guarded.function(), guarded.remedy()
		d.Stage, d.ExitCode, d.Fault, d.LastLines = guarded.stage, guarded.code, guarded.fault, guarded.lines
		if guarded.signal != nil {
			d.Signal = guarded.signal.String()
		}
	case errors.As(err, &line):
		d.Kind, d.Found, d.Expected, d.Remedy = wrongLine, line.found, line.expected, line.remedy
	case errors.As(err, &faulty):
		f := faulty.Faults[0]
		d.Kind, d.Found, d.Expected, d.Remedy = "the file is not a valid config.yaml", f.Found, f.Expected, f.Remedy
	case errors.As(err, &release):
		if release.Kind != nil {
			d.Kind = release.Kind.Error()
		}
		d.Plugin, d.Found, d.Expected, d.Remedy = release.Plugin, release.Found, release.Expected, release.Remedy
	case errors.As(err, &host):
		d.Kind, d.Found, d.Expected, d.Remedy = host.Kind.Error(), host.Found, host.Expected, host.Remedy
	case errors.As(err, &source):
		d.Kind, d.Found, d.Expected, d.Remedy = notAPlugin, source.Found, source.Expected, source.Remedy
	case errors.As(err, &unready):
		d.Kind, d.Found, d.Expected, d.Remedy = notAPlugin, unready.Found, unready.Expected, unready.Remedy
	case errors.As(err, &open):
		if open.Kind != nil {
			d.Kind = open.Kind.Error()
		}
		d.Symbol, d.Found, d.Expected, d.Remedy = open.Symbol, open.Found, open.Expected, open.Remedy
		if errors.As(open.Err, &crash) {
			d.ofCrash(crash)
			if crash.Late > 0 || crash.Signal != nil || crash.ExitCode >= 0 { // of one that could not be started at all, or keeps to no rule, the kind of open says more
				d.Kind = kindOfCrash(crash)
			}
		} else if kind := ofContext(open.Err); kind != "" {
			d.Kind, d.Stage = kind, opening
		}
	case errors.As(err, &contract):
		d.Kind, d.Plugin, d.Function, d.Rule = "a rule of the contract is broken", contract.Plugin, contract.Func, contract.Rule
		d.Found, d.Expected = contract.Found, contract.Expected
	case errors.As(err, &use):
		d.Kind, d.Plugin, d.Function, d.Remedy = use.Kind.Error(), use.Plugin, use.Func, use.Remedy
	case errors.As(err, &crash):
		d.Kind = kindOfCrash(crash)
		d.ofCrash(crash)
	case errors.As(err, &late):
		d.Kind, d.Plugin, d.Function, d.Stage = cmp.Or(ofContext(late.Cause), lateKind), late.Plugin, late.Func, stageOf(late.Func)
	case errors.As(err, &call):
		d.Kind, d.Plugin, d.Function = call.Status.Error(), call.Plugin, call.Func
		if kind := ofContext(err); kind != "" && call.Status == loader.ErrCancelled { // whether it was called yet, or saw the end, is chance
			d.Kind = kind
		}
	}
	var ended *exit
	var named *unread
	switch {
	case d.Kind != "":
	case ofContext(err) != "":
		d.Kind = ofContext(err)
	case errors.As(err, &named):
		d.Kind, d.Found, d.Expected = wrongLine, named.Error(), "what "+named.flag+" names to be there, and this user's to use"
		if w := named.wrong(); w != nil {
			d.Found, d.Expected, d.Remedy = w.found, w.expected, w.remedy
		}
	case errors.As(err, &ended) && ended.code == exitUsage:
		d.Kind = wrongLine
	}
	if text := new(abi.TextError); d.Rule == "" && errors.As(err, &text) {
		d.Rule = text.Rule
	}
	return d
}

// ofContext is the kind of an error that a context's end has caused; "" of any other.
func ofContext(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return wasInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return lateKind
	}
	return ""
}

// kindOfCrash is the kind of a worker's end: the host ends one that is late, too.
func kindOfCrash(c *loader.CrashError) string {
	if c.Late > 0 {
		return lateKind
	}
	return crashed
}

// ofCrash adds what is known of a worker's end.
func (d *errorDetails) ofCrash(c *loader.CrashError) {
	d.Plugin, d.Function, d.Stage = c.Plugin, c.Func, stageOf(c.Func)
	d.Fault, d.LastLines, d.Attempt = c.Fault, c.Output, c.Attempt
	if c.Signal != nil {
		d.Signal = c.Signal.String()
	} else if c.ExitCode >= 0 {
		d.ExitCode = &c.ExitCode
	}
}

// stageOf is the stage of an isolated plug-in, from the function that an error names.
func stageOf(fn string) stage {
	switch fn {
	case "":
		return opening
	case abi.SymbolStop:
		return stopping
	}
	return calling
}
