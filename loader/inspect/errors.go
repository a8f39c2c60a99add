package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ferrule-dev/ferrule/loader/escape"
	"github.com/ferrule-dev/ferrule/loader/internal/count"
)

// The kinds of errors, to be matched with errors.Is.
var (
	ErrRead       = errors.New("the file cannot be read")
	ErrNotRegular = errors.New("not a regular file")
	ErrNotLibrary = errors.New("not a shared library")
	ErrTruncated  = errors.New("the file is truncated")
	ErrMalformed  = errors.New("the file is malformed")
	ErrNoContract = errors.New("not a Ferrule plug-in")
	ErrManifest   = errors.New("the manifest or a meta text is invalid")      // rules R1, R3, R13
	ErrMajor      = errors.New("written for another version of the contract") // rule R1
	ErrName       = errors.New("an invalid name")                             // rule R2
	ErrDuplicate  = errors.New("a name is exported twice")                    // rule R2
	ErrSymbol     = errors.New("an exported symbol is not what its name says")
)

// Error says why a file cannot be used as a plug-in.
type Error struct {
	Path     string // the file; "" when it was read from an io.ReaderAt
	Symbol   string // the exported symbol it is about, or ""
	Kind     error  // one of the Err variables of this package, or of the package that made the Error
	Found    string // what the file has; may be empty
	Expected string // what it should have; may be empty
	Remedy   string // what to do, as a sentence without its full stop, or as a question; may be empty
	Err      error  // the cause: *fs.PathError, *abi.TextError, *abi.MajorError …, or nil

	runs string // RunsOther's, of a script
}

// SetPath sets the path of an error of Read's, and says what only the file's name tells of it.
func (e *Error) SetPath(path string) {
	e.Path = path
	ext := strings.ToLower(filepath.Ext(path))
	short := e.Found == anEmptyFile || strings.HasPrefix(e.Found, aFileOf)
	if e.Kind != ErrNotLibrary || e.Found != aText && e.Found != aScript && !short {
		return
	}
	if e.runs != "" && ext == ".py" {
		e.Found, e.Expected = fmt.Sprintf("a script whose first line names no Python that is known, %.100q", e.runs), "a first line that names Python, such as #!/usr/bin/env python3, or that is none with #!"
		e.Remedy = "Where it is a plug-in for script.Engine(), write that line, or take it out; where it is a sidecar, open it with sidecar.Program()"
		return
	}
	if e.Found == aText && slices.Contains(scripts, ext) {
		e.Remedy = nameProgram
	}
	if i := slices.IndexFunc(languages, func(l *language) bool { return slices.Contains(l.extensions, ext) }); i >= 0 {
		e.Expected += ", or a script that begins with " + languages[i].line + " ferrule: name=… version=…"
		e.Remedy = "Where it is a plug-in for script.Engine(), write that header before its first statement; where it is a sidecar, begin it with #! and what runs it"
		if e.Found == aScript { // which it does
			e.Remedy = "Where it is a plug-in for script.Engine(), write that header before its first statement; where it is a sidecar, open it with sidecar.Program()"
		}
	}
}

// Error says what was found, what was expected and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(quoted(e.Path) + ": ")
	}
	if symbol := e.Symbol; symbol != "" {
		b.WriteString(quoted(symbol) + ": ")
	}
	if e.Kind != nil {
		b.WriteString(e.Kind.Error())
	}
	switch cause := e.Err; {
	case e.Found != "" && e.Expected != "":
		fmt.Fprintf(&b, ": found %s, expected %s", e.Found, e.Expected)
	case e.Found != "":
		b.WriteString(": found " + e.Found)
	case cause != nil:
		if path, ok := errors.AsType[*fs.PathError](cause); ok {
			cause = path.Err // its text repeats the path
		}
		b.WriteString(": " + strings.TrimSuffix(cause.Error(), ".")) // Windows' words end with it
	}
	if e.Remedy != "" {
		b.WriteString(". " + e.Remedy)
		if !strings.HasSuffix(e.Remedy, "?") {
			b.WriteString(".")
		}
	}
	return escape.Lines(strings.TrimPrefix(b.String(), ": ")) // where there is neither a path nor a kind
}

// quoted quotes text that a terminal would not show as it is: a hostile library's symbol, a path with control characters.
func quoted(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
		return strconv.Quote(text)
	}
	return text
}

// Unwrap returns the kind and the cause, those that are there.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	switch {
	case e.Err == nil:
	case e.Kind != ErrRead && errors.Is(e.Err, fs.ErrNotExist):
		errs = append(errs, notItself{e.Err})
	default:
		errs = append(errs, e.Err)
	}
	return errs
}

// notItself is a cause by which another file than the one that the Error is about is missing: who asks for fs.ErrNotExist asks for that one.
type notItself struct{ error }

// Is is for errors.Is.
func (n notItself) Is(target error) bool {
	return target != fs.ErrNotExist && errors.Is(n.error, target)
}

// As is for errors.As.
func (n notItself) As(target any) bool { return errors.As(n.error, target) }

const (
	wantLibrary  = "ELF (.so), Mach-O (.dylib), PE (.dll) or WebAssembly (.wasm)"
	copyAgain    = "Copy or build the file again"
	buildLibrary = "Link the plug-in as a shared library (cc -shared, crate-type cdylib)"
	openProgram  = "Where it is a sidecar, open it with sidecar.Program(); otherwise link the plug-in as a shared library (cc -shared, crate-type cdylib)"
	aScript      = "a script"
	aText        = "a text file"
	aFileOf      = "a file of "
	anEmptyFile  = "an empty file"
	nameProgram  = "Where it is a sidecar, write #! and what runs it into its first line; otherwise link the plug-in as a shared library"
)

// scripts are how names of scripts end.
var scripts = []string{".py", ".js", ".mjs", ".rb", ".pl", ".sh", ".lua", ".php"}

func notLibrary(found string) *Error {
	remedy := buildLibrary
	if strings.HasPrefix(found, "an executable program") || found == aScript {
		remedy = openProgram
	}
	return &Error{Kind: ErrNotLibrary, Found: found, Expected: wantLibrary, Remedy: remedy}
}

// truncated says that what, a part of the file, ends at end, beyond the file's size.
func truncated(what string, end, size uint64) error {
	return &Error{Kind: ErrTruncated, Found: count.Of(size, "byte"),
		Expected: fmt.Sprintf("%d or more, for %s", end, what), Remedy: copyAgain}
}

func malformed(format string, args ...any) error {
	return &Error{Kind: ErrMalformed, Found: fmt.Sprintf(format, args...), Remedy: copyAgain}
}

// tooLong refuses what fits the file's size, as anything fits a sparse one, and would take too long to read.
func tooLong(n uint64, what string) error {
	return malformed("%d %s, more than this reader takes", n, what)
}
