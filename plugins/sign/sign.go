package sign

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"aead.dev/minisign"

	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Subject is what a signature says of the file that it is over.
type Subject struct {
	Name     string // the plug-in's, as in its manifest
	Version  string // as in its manifest: 128 characters at most of those that can be seen in ASCII, no space
	Platform string // as in linux/amd64, or registry.AnyPlatform
}

// Comment is the trusted comment for the subject: ferrule NAME VERSION PLATFORM.
func (s Subject) Comment() string { return "ferrule " + s.Name + " " + s.Version + " " + s.Platform }

// String says it to people.
func (s Subject) String() string { return s.Name + " " + s.Version + " for " + s.Platform }

// Lengths are not in the expressions: a bound there is compiled as so many copies, which every program that imports this would wait for at its start.
var (
	validVersion = regexp.MustCompile(`^[!-~]+$`)                // of 128 characters at most
	validComment = regexp.MustCompile(`^[!-~](?:[ -~]*[!-~])?$`) // of 512
)

// Check reports what of the subject cannot be signed, as a *registry.Error: of the kind ErrName, ErrVersion or ErrPlatform.
func (s Subject) Check() error {
	e := &registry.Error{Plugin: s.Name, Version: s.Version}
	switch {
	case !registry.ValidName(s.Name):
		e.Plugin, e.Version, e.Kind = "", "", registry.ErrName
		e.Found, e.Expected = "the name "+short(s.Name), registry.NameRule
	case len(s.Version) > 128 || !validVersion.MatchString(s.Version):
		e.Version, e.Kind = "", registry.ErrVersion
		e.Found, e.Expected, e.Remedy = "the version "+short(s.Version), "1 to 128 characters of ASCII without spaces, such as 1.4.0", "Correct it in the manifest"
	case !registry.ValidPlatform(s.Platform):
		e.Kind = registry.ErrPlatform
		e.Found, e.Expected = "the platform "+short(s.Platform), registry.PlatformRule
	default:
		return nil
	}
	return e
}

// parseComment reads a trusted comment that Subject.Comment has made, and no other.
func parseComment(comment string) (s Subject, ok bool) {
	words := strings.Split(comment, " ")
	if len(words) != 4 || words[0] != "ferrule" {
		return Subject{}, false
	}
	s = Subject{words[1], words[2], words[3]}
	return s, s.Check() == nil
}

// The beginnings of the lines of keys and signatures that are for people.
const (
	untrusted = "untrusted comment: "
	trusted   = "trusted comment: "
)

// Sign signs a plug-in's file, which it reads to the end, piece by piece. The signature is the text of a .minisig file, and the caller's. Where the
// subject is none that can be signed the error is Check's; file's errors are returned.
func Sign(key PrivateKey, s Subject, file io.Reader) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	return signComment(key, s.Comment(), "signature of a Ferrule plug-in, by key "+key.ID(), file)
}

// SignComment signs what is no plug-in's file, such as an index, with a trusted comment of its own: 1 to 512 characters of ASCII that do not begin with
// "ferrule ", which is for plug-ins: so neither can be taken for the other. See Sign.
func SignComment(key PrivateKey, comment string, file io.Reader) ([]byte, error) {
	if len(comment) > 512 || !validComment.MatchString(comment) || strings.HasPrefix(comment, "ferrule ") {
		return nil, &registry.Error{Found: "the trusted comment " + short(comment), Expected: `1 to 512 characters of ASCII that do not begin with "ferrule "`,
			Kind: registry.ErrComment}
	}
	return signComment(key, comment, "signature by key "+key.ID(), file)
}

func signComment(key PrivateKey, comment, forPeople string, file io.Reader) ([]byte, error) {
	r := minisign.NewReader(file)
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, fmt.Errorf("the file to sign: %w", err)
	}
	return r.SignWithComments(key.key, comment, forPeople), nil
}
