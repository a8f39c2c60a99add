package sidecar

import (
	"bytes"
	"context"
	"crypto/tls"
	"debug/elf"
	"encoding/binary"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/engine"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/sidecar/internal/reach"
	"github.com/ferrule-dev/ferrule/loader/sidecar/link"
)

// schemes are those of URLs, with what is behind the colon.
var schemes = map[string]string{"unix": "unix:PATH", "tcp": "tcp:HOST:PORT", "fifo": "fifo:IN,OUT", "npipe": "npipe:NAME"}

// schemeOf returns a path's scheme, "" where it is a file's path.
func schemeOf(path string) string {
	scheme, _, ok := strings.Cut(path, ":")
	if _, known := schemes[scheme]; !ok || !known {
		return ""
	}
	return scheme
}

// URL reports whether path is the URL of a sidecar that somebody else has started, such as unix:PATH, and no file's. Where something is wrong with the URL, the error
// is a *loader.OpenError that says so, without looking for who is there.
func URL(path string) (is bool, err error) {
	scheme, rest, _ := strings.Cut(path, ":")
	fault := func(found, remedy string) (bool, error) {
		return true, &inspect.Error{Path: path, Kind: loader.ErrOption, Found: found, Expected: schemes[scheme], Remedy: remedy}
	}
	known := schemeOf(path) != ""
	other, option := engine.URL(path)
	switch rest = strings.TrimPrefix(rest, "//"); {
	case !known && other != "":
		return false, &inspect.Error{Path: engine.WithoutUsers(path), Kind: loader.ErrOption, Found: "a URL that begins with " + other + ":", Expected: "a program, or one of " + allSchemes,
			Remedy: "Open it with " + option}
	case !known && strings.Contains(path, "://"):
		return false, &inspect.Error{Path: path, Kind: loader.ErrOption, Found: "a URL that begins with " + scheme + ":", Expected: "a program, or one of " + allSchemes, Remedy: "Correct it"}
	case !known:
		return false, nil
	case scheme == "fifo":
		if in, out, ok := strings.Cut(rest, ","); !ok || in == "" || out == "" {
			return fault("one path", "Give the FIFO that the sidecar reads, and the one that it writes")
		}
	case scheme == "tcp":
		host, port, err := net.SplitHostPort(rest)
		n, wrong := strconv.ParseUint(port, 10, 16)
		switch {
		case err == nil && host != "" && wrong == nil && n > 0:
		case err == nil && host == "":
			return fault("no host", "Write it before the port, such as localhost")
		case port == "":
			return fault("no port", "Write the one that it listens at behind the host; an address of IPv6 stands in brackets")
		default:
			return fault("the port "+strconv.Quote(port), "Give its number, 1 to 65535")
		}
	case rest == "":
		return fault("nothing behind "+scheme+":", "Say where it listens (is a variable not set?)")
	}
	return known, nil
}

const allSchemes = "unix:PATH, tcp:HOST:PORT, fifo:IN,OUT and npipe:NAME"

// dial connects to a sidecar that somebody else has started.
func (l *launcher) dial(ctx context.Context) (link.Stream, error) {
	scheme, rest, _ := strings.Cut(l.path, ":")
	rest = strings.TrimPrefix(rest, "//")
	var s link.Stream
	var err error
	switch scheme {
	case "unix":
		s, err = (&net.Dialer{}).DialContext(ctx, "unix", rest)
	case "tcp":
		if l.tls != nil {
			s, err = (&tls.Dialer{Config: l.tls}).DialContext(ctx, "tcp", rest)
		} else {
			s, err = (&net.Dialer{}).DialContext(ctx, "tcp", rest)
		}
	case "fifo":
		in, out, _ := strings.Cut(rest, ",")
		s, err = openFIFOs(ctx, in, out)
	case "npipe":
		s, err = openNamedPipe(ctx, rest)
	}
	if err == nil {
		return s, nil
	}
	if e, ok := err.(*inspect.Error); ok {
		e.Path = l.path
		return nil, e
	}
	if certificate := (*tls.CertificateVerificationError)(nil); errors.As(err, &certificate) {
		return nil, &inspect.Error{Path: l.path, Kind: loader.ErrRead, Found: "a certificate that does not count: " + certificate.Unwrap().Error(), Err: err, Expected: "one of this host, signed by an authority that does",
			Remedy: "Name who has signed it (WithTLS; in config.yaml: ca), or check the address"}
	}
	found, remedy := reach.Failed("sidecar", err)
	if l.tls != nil && !reach.Connecting(err) && !reach.Timeout(err) {
		found, remedy = "a sidecar with which TLS cannot be spoken ("+reach.Cause(err)+")", "Check that it is one that speaks TLS; without sidecar.WithTLS it is spoken to in the clear"
	}
	return nil, &inspect.Error{Path: l.path, Kind: loader.ErrRead, Found: found, Err: err, Remedy: remedy}
}

// again is how long an end of a pipe by name that is not there yet is not looked for.
const again = 5 * time.Millisecond

// isProgram reports whether a file that begins so is a program, and no library.
func isProgram(head []byte) bool {
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return true
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		f, err := elf.NewFile(bytes.NewReader(head))
		if err != nil { // its sections lie behind the head
			f = programHeaders(head)
		}
		if f == nil {
			return false
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				return true
			}
		}
		return f.Type == elf.ET_EXEC
	case bytes.HasPrefix(head, []byte("MZ")) && len(head) >= 64:
		at := int(binary.LittleEndian.Uint32(head[60:]))
		const isDLL = 0x2000
		return at > 0 && at+24 <= len(head) && string(head[at:at+4]) == "PE\x00\x00" && binary.LittleEndian.Uint16(head[at+22:])&isDLL == 0
	case len(head) >= 16 && (binary.LittleEndian.Uint32(head) == 0xfeedfacf || binary.LittleEndian.Uint32(head) == 0xfeedface):
		const isExecutable = 2
		return binary.LittleEndian.Uint32(head[12:]) == isExecutable
	}
	return false
}

// programHeaders reads a file's head as ELF without its sections.
func programHeaders(head []byte) *elf.File {
	without := bytes.Clone(head)
	switch {
	case len(without) < 64:
		return nil
	case without[elf.EI_CLASS] == byte(elf.ELFCLASS64):
		clear(without[40:48]) // e_shoff
		clear(without[60:64]) // e_shnum, e_shstrndx
	default:
		clear(without[32:36])
		clear(without[48:52])
	}
	f, err := elf.NewFile(bytes.NewReader(without))
	if err != nil {
		return nil
	}
	return f
}
