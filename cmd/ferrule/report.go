package main

import (
	"errors"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/loader"
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
}

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
	var stuck *hang
	switch {
	case errors.As(err, &guarded):
		d.Kind, d.Plugin, d.Function = guarded.kind, guarded.plugin, guarded.fn
	case errors.As(err, &stuck):
		d.Kind, d.Plugin, d.Function = "out of time", stuck.plugin, stuck.fn
	case errors.As(err, &line):
		d.Kind, d.Found, d.Expected, d.Remedy = "the command line is wrong", line.found, line.expected, line.remedy
	case errors.As(err, &open):
		if open.Kind != nil {
			d.Kind = open.Kind.Error()
		}
		d.Symbol, d.Found, d.Expected, d.Remedy = open.Symbol, open.Found, open.Expected, open.Remedy
	case errors.As(err, &contract):
		d.Kind, d.Plugin, d.Function, d.Rule = "a rule of the contract is broken", contract.Plugin, contract.Func, contract.Rule
		d.Found, d.Expected = contract.Found, contract.Expected
	case errors.As(err, &use):
		d.Kind, d.Plugin, d.Function, d.Remedy = use.Kind.Error(), use.Plugin, use.Func, use.Remedy
	case errors.As(err, &crash):
		d.Kind, d.Plugin, d.Function = "the plug-in crashed", crash.Plugin, crash.Func
	case errors.As(err, &late):
		d.Kind, d.Plugin, d.Function = "out of time", late.Plugin, late.Func
	case errors.As(err, &call):
		d.Kind, d.Plugin, d.Function = call.Status.Error(), call.Plugin, call.Func
	}
	if text := new(abi.TextError); d.Rule == "" && errors.As(err, &text) {
		d.Rule = text.Rule
	}
	return d
}
