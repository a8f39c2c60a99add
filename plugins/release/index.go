package release

import (
	"context"
	"errors"
	"net/url"
	"path"
	"strings"

	"github.com/ferrule-dev/ferrule/plugins/index"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// Index returns what fetches a registry's index from below an address that begins with https:// or http://: any web server over the folder that
// index.Built.Write has made. Credentials are as for New. A query of the address is sent each time. Nothing is asked yet.
func Index(address string) (index.Fetcher, error) {
	c, address, name, err := reach(address)
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(address)
	if err != nil {
		return nil, refused(registry.ErrMalformed, "an address of an index that is none", "https:// or http://, a host and a path", "Correct it")
	}
	return &pages{c, base, name}, nil
}

// pages is the index.Fetcher of a web server.
type pages struct {
	*client
	base *url.URL
	name string
}

func (p *pages) String() string { return p.name }

func (p *pages) Root(ctx context.Context) (root, signature []byte, err error) {
	// The signature was written first: see index.Built.Write.
	if signature, err = p.file(ctx, index.SignatureFile, registry.MaxSignature); err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, nil, err
	}
	root, err = p.file(ctx, index.RootFile, index.MaxRoot)
	return root, signature, err
}

func (p *pages) Shard(ctx context.Context, digest string, size int64) ([]byte, error) {
	const packed = 1 << 10 // more, where the server compresses it once more
	return p.file(ctx, path.Join(index.ShardFolder, registry.Hex(digest)), size+packed)
}

// file gets a small file from below the address.
func (p *pages) file(ctx context.Context, name string, limit int64) ([]byte, error) {
	at := *p.base
	at.Path, at.RawPath = strings.TrimSuffix(at.Path, "/")+"/"+name, ""
	text, _, err := p.Text(ctx, at.String(), limit)
	if e, ok := errors.AsType[*registry.Error](err); ok && e.Source == "" {
		e.Source = p.name
	}
	return text, err
}
