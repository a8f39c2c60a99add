package engine

import (
	"slices"
	"strings"
)

// ways are the packages that open URLs, by their schemes, with the option for it.
var ways = map[string]string{
	"nats": natsWay, "tls": natsWay, "mqtt": mqttWay, "mqtts": mqttWay,
	"http": webWay, "https": webWay, "http+unix": webWay,
	"unix": sidecarWay, "tcp": sidecarWay, "fifo": sidecarWay, "npipe": sidecarWay,
}

const (
	of         = ", of package github.com/ferrule-dev/ferrule/loader/"
	natsWay    = "nats.Plugin()" + of + "remote/nats"
	mqttWay    = "mqtt.Plugin()" + of + "remote/mqtt"
	webWay     = "web.Server()" + of + "sidecar/web"
	sidecarWay = "sidecar.Program()" + of + "sidecar"
)

// URL returns a path's scheme where it is a URL that Ferrule has an engine for, and the option that opens it, in words; both are "" for any other path. No engine
// is asked: a host may lack it.
func URL(path string) (scheme, option string) {
	scheme, rest, ok := strings.Cut(path, ":")
	option = ways[scheme]
	if !ok || option == "" || (option == natsWay || option == mqttWay) && !strings.HasPrefix(rest, "//") {
		return "", ""
	}
	return scheme, option
}

// OpensURLs reports whether the engine of a name is one of those that URL names: it knows best what is wrong with a URL.
func OpensURLs(name string) bool {
	return slices.Contains([]string{"nats.Engine", "mqtt.Engine", "web.Engine", "sidecar.Engine"}, name)
}

// SplitURL splits SCHEME://SERVERS/NAME; what is missing is "". A password may have a slash in it: that is not taken for the one before the name.
func SplitURL(path string) (scheme, servers, name string) {
	scheme, rest, ok := strings.Cut(path, "://")
	if !ok {
		scheme, rest = "", path
	}
	servers, name, _ = strings.Cut(rest, "/")
	if at := strings.LastIndexByte(name, '/'); at >= 0 && strings.Contains(name[:at], "@") {
		at += len(servers) + 1
		return scheme, rest[:at], rest[at+1:]
	}
	return scheme, servers, name
}

// WithoutUsers is a URL without what may be a password, also where its scheme is missing.
func WithoutUsers(path string) string {
	scheme, servers, _ := SplitURL(path)
	if scheme != "" {
		scheme += "://"
	}
	return scheme + ServersWithoutUsers(servers) + path[len(scheme)+len(servers):]
}

// ServersWithoutUsers is the URLs of servers, with commas between, without what may be a password.
func ServersWithoutUsers(servers string) string {
	all := strings.Split(servers, ",")
	for i, server := range all {
		if at := strings.LastIndexByte(server, '@'); at >= 0 {
			scheme, _, ok := strings.Cut(server[:at], "://")
			if ok {
				scheme += "://"
			} else {
				scheme = ""
			}
			all[i] = scheme + "…" + server[at:]
		}
	}
	return strings.Join(all, ",")
}
