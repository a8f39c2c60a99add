package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ferrule-dev/ferrule/abi"
	"github.com/ferrule-dev/ferrule/cmd/ferrule/internal/check"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
	"github.com/ferrule-dev/ferrule/loader/sidecar/web"
)

// sidecarFlags say which sidecar is called, a program or what answers at a URL: both as ferrule check --sidecar has them.
type sidecarFlags struct {
	given     bool // --sidecar
	token, ca string
	byTLS     bool
	args      []string // of a program, behind --

	read   bool // what follows was read: it may have been a FIFO
	secret string
	secure *tls.Config
}

// files reads the token and the certificates, once.
func (s *sidecarFlags) files(a *app, target string) error {
	if s.read {
		return nil
	}
	text, err := checkText(a, s.token, "--token")
	if err != nil {
		return err
	}
	s.secret = strings.TrimRight(string(text), "\r\n")
	if s.secure, err = sidecarTLS(target, s.byTLS, s.ca); err != nil {
		return err
	}
	s.read = true
	return nil
}

// add adds the flags.
func (s *sidecarFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&s.given, "sidecar", false, "call a program, or what answers at a URL, as a sidecar; its arguments stand behind --")
	f.StringVar(&s.token, "token", "", "with --sidecar: the `TOKEN` that it asks for, or @FILE")
	f.BoolVar(&s.byTLS, "tls", false, "with --sidecar: speak to a tcp: URL by TLS")
	f.StringVar(&s.ca, "ca", "", "with --sidecar: the certificates of authorities that may vouch for it, a `FILE` in PEM (default the system's)")
}

// take takes the sidecar's own arguments from those of the command line, and refuses what is for a sidecar, or for none.
func (s *sidecarFlags) take(flags *pflag.FlagSet, args []string, dash int) ([]string, error) {
	if !s.given {
		for _, name := range []string{"token", "tls", "ca"} {
			if flags.Changed(name) {
				return nil, usage("--"+name+" without --sidecar", "both, as it is about sidecars alone", "Leave it out")
			}
		}
		return args, nil
	}
	for _, name := range []string{"isolated", "sandbox"} {
		if flags.Changed(name) {
			return nil, usage("--"+name+" with --sidecar", "one of them: a sidecar is a process of its own by itself, with the rights of this user", "Leave one of them out")
		}
	}
	if dash >= 0 {
		args, s.args = args[:dash], args[dash:]
	}
	return args, nil
}

// words are its options in a command line that goes on from this one, each with a space behind it. A token that is no file's name is not repeated: it may be a secret.
func (s *sidecarFlags) words() string {
	if !s.given {
		return ""
	}
	text := "--sidecar "
	switch {
	case strings.HasPrefix(s.token, "@") && !strings.HasPrefix(s.token, "@@"):
		text += "--token " + shellWord(s.token) + " "
	case s.token != "":
		text += "--token TOKEN "
	}
	if s.byTLS {
		text += "--tls "
	}
	if s.ca != "" {
		text += "--ca " + shellWord(s.ca) + " "
	}
	return text
}

// behind are the program's own arguments in such a command line, at its end.
func (s *sidecarFlags) behind() (text string) {
	for i, word := range s.args {
		if i == 0 {
			text = " --"
		}
		text += " " + shellWord(word)
	}
	return text
}

// engine is how the sidecar is opened: by which path or URL, and by what, with these options where it is no HTTP server.
func (s *sidecarFlags) engine(a *app, target string, options ...sidecar.Option) (path string, e engine.Engine, err error) {
	if err := s.files(a, target); err != nil {
		return "", nil, err
	}
	token, byTLS := s.secret, s.secure
	if scheme, _, _ := strings.Cut(target, ":"); scheme == "http" || scheme == "https" || scheme == "http+unix" {
		var options []web.Option
		if token != "" {
			options = append(options, web.WithToken(token))
		}
		if byTLS != nil {
			options = append(options, web.WithTLS(byTLS))
		}
		e = web.Engine(options...)
		return target, e, e.Fault()
	}
	if token != "" {
		options = append(options, sidecar.WithToken(token))
	}
	if byTLS != nil {
		options = append(options, sidecar.WithTLS(byTLS))
	}
	if s.args != nil {
		options = append(options, sidecar.WithArgs(check.WholePaths(s.args)...))
	}
	if url, err := sidecar.URL(target); !url && err == nil {
		if target, err = check.Program(target); err != nil {
			return "", nil, err
		}
	}
	e = sidecar.Engine(options...)
	return target, e, e.Fault()
}

// errAsked ends the session of a sidecar that has said what it is.
var errAsked = errors.New("what it is was all that was asked")

// askSidecar has a sidecar say what it is.
func askSidecar(ctx context.Context, path string, e engine.Engine) (*inspect.Library, error) {
	file := &engine.File{Path: path}
	defer file.Close()
	var about *abi.Description
	_, _, err := e.Open(ctx, file, &engine.Options{Instances: 1}, func(d *abi.Description) (engine.Host, error) {
		about = d
		return nil, errAsked
	})
	if about == nil {
		if crash, ok := errors.AsType[*engine.Crash](err); ok {
			found := "a sidecar that does not say what it is: " + crash.Error() + crash.LastWords()
			open := &inspect.Error{Path: path, Kind: loader.ErrLoad, Found: found, Expected: "its manifest, as docs/wire.md has it",
				Remedy: cmp.Or(strings.TrimSuffix(crash.Remedy, "."), "See ferrule check --sidecar, which says more")}
			if err = open; crash.Late > 0 || crash.Signal != nil { // the text has it
				text := open.Error()
				open.Err = &loader.CrashError{ExitCode: crash.Code, Signal: crash.Signal, Reason: crash.Reason, Output: crash.Output, Attempt: crash.Attempt, Late: crash.Late}
				err = &worded{text, open}
			}
		}
		return nil, err
	}
	return &inspect.Library{Description: *about}, nil
}
