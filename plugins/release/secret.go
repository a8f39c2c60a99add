package release

import (
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/regular"
)

// secret is what is sent to the page's own origin, and nowhere else.
type secret struct {
	header   string // of Authorization; "" is none
	variable string // the environment's for a token; "" where the host can have none
	plain    bool   // there is one, and it is not sent: anybody on the way could read it
}

// variable is the environment variable with a token for a host, as Terraform writes its own: dots become _, hyphens __, so that no two hosts share one.
func variable(host string) string {
	host = strings.ToUpper(host)
	for _, c := range host {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '-' {
			return ""
		}
	}
	return "FERRULE_TOKEN_" + strings.NewReplacer(".", "_", "-", "__").Replace(host)
}

// credentials finds what an origin is to be told: what the address has before its @, else the token of the environment, else what .netrc says.
func credentials(origin *url.URL) (secret, error) {
	s := secret{variable: variable(origin.Hostname())}
	basic := func(user, password string) {
		s.header = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	switch token := os.Getenv(s.variable); {
	case origin.User != nil:
		password, _ := origin.User.Password()
		basic(origin.User.Username(), password)
	case s.variable != "" && token != "":
		if strings.IndexFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) >= 0 {
			return s, &registry.Error{Kind: registry.ErrRefused, Found: s.variable + " with a space or a character that no token has", Expected: "a token", Remedy: "Set it again"}
		}
		s.header = "Bearer " + token
	default:
		text, err := netrcText()
		if err != nil {
			return s, &registry.Error{Kind: registry.ErrRefused, Found: "a .netrc that cannot be read", Err: err, Remedy: "Correct its permissions, or point NETRC at another file"}
		}
		if user, password, ok := netrc(text, origin.Hostname()); ok {
			basic(user, password)
		}
	}
	if s.header != "" && origin.Scheme == "http" && !loopback(origin.Hostname()) {
		s.header, s.plain = "", true
	}
	return s, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// netrcText is what is in NETRC, or in the .netrc of the user's home; "" where there is none.
func netrcText() (string, error) {
	path := os.Getenv("NETRC")
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", nil // there is no home, so there is no .netrc
		}
		name := ".netrc"
		if runtime.GOOS == "windows" {
			name = "_netrc"
		}
		path = filepath.Join(home, name)
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !info.Mode().IsRegular() {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	file, err := regular.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 1<<20))
	return string(text), err
}

// netrc finds a machine's login and password. The entry default is for any host, a hostile one too, so it is not for this.
func netrc(text, host string) (user, password string, ok bool) {
	words := []string{}
	macro := false
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) == 0 {
			macro = false // it ends with an empty line
			continue
		}
		if macro || strings.HasPrefix(w[0], "#") {
			continue
		}
		if w[0] == "macdef" {
			macro = true
			continue
		}
		words = append(words, w...)
	}
	within := false
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch words[i] {
		case "machine":
			if ok {
				return user, password, true
			}
			within = strings.EqualFold(next, host)
			i++
		case "default":
			within = false
		case "login", "password", "account":
			if within && words[i] == "login" {
				user = next
			}
			if within && words[i] == "password" {
				password, ok = next, true
			}
			i++
		}
	}
	return user, password, ok
}
