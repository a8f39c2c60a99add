package release

import (
	"crypto/x509"
	"net/http"
	"time"

	"github.com/ferrule-dev/ferrule/plugins/config"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Hurried is New with little patience, and with the certificates of a test.
func Hurried(r config.Registry, roots *x509.CertPool) (registry.Source, error) {
	return open(r, func(c *client) {
		c.answer, c.idle, c.text, c.backoff = 2*time.Second, 2*time.Second, 4*time.Second, time.Millisecond
		c.pace = 2000
		if roots != nil {
			c.http.Transport.(*http.Transport).TLSClientConfig.RootCAs = roots
		}
	})
}

var (
	Variable = variable
	Netrc    = netrc
)
