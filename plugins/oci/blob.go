package oci

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// blob is a file on its way: exactly the bytes that are left of it, or an error.
type blob struct {
	body  io.ReadCloser
	at    int64
	left  int64
	fault func(error) error
}

// open asks for a blob from an offset on by itself: oras-go's Seek is a request more.
func (r *Registry) open(ctx context.Context, repository *remote.Repository, d ocispec.Descriptor, from int64) (*blob, error) {
	if from < 0 || from > d.Size {
		from = 0 // what one has is not the beginning of this
	}
	if from == d.Size && from > 0 {
		return &blob{body: http.NoBody, at: from}, nil
	}
	ctx = auth.AppendRepositoryScope(ctx, repository.Reference, auth.ActionPull)
	scheme := "https"
	if r.plain {
		scheme = "http"
	}
	address := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", scheme, repository.Reference.Host(), repository.Reference.Repository, d.Digest)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, d.Size-1)) // some want an end
	}
	response, err := r.http.Do(request)
	if err != nil {
		return nil, err
	}
	b := &blob{body: response.Body, left: d.Size}
	if err := b.begin(response, from, d.Size); err != nil {
		response.Body.Close()
		return nil, err
	}
	return b, nil
}

// begin looks at what a response begins with.
func (b *blob) begin(response *http.Response, from, size int64) error {
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent:
		if said, want := response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", from, size-1, size); from == 0 || said != want {
			return malformed(strconv.Quote(want), "a part with the Content-Range %s", quote(said))
		}
		b.at, b.left = from, size-from
	case http.StatusNotFound:
		return errdef.ErrNotFound
	default:
		return &errcode.ErrorResponse{StatusCode: response.StatusCode}
	}
	if n := response.ContentLength; n >= 0 && n != b.left {
		return malformed(strconv.FormatInt(b.left, 10), "a file of %s", counted(n, "byte"))
	}
	return nil
}

// Read ends with io.EOF when all bytes have come. An end before is an error, and so is more.
func (b *blob) Read(p []byte) (int, error) {
	if b.left == 0 && len(p) > 0 {
		var more [1]byte
		if n, err := io.ReadFull(b.body, more[:]); n > 0 {
			return 0, b.fault(malformed("its end", "more bytes than the file has"))
		} else if err != io.EOF {
			return 0, b.fault(err)
		}
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), b.left)]
	n, err := b.body.Read(p)
	b.left -= int64(n)
	switch {
	case err == io.EOF && b.left > 0:
		err = io.ErrUnexpectedEOF
	case err == io.EOF:
		return n, io.EOF
	}
	if err != nil {
		err = b.fault(err)
	}
	return n, err
}

// Close gives the connection back.
func (b *blob) Close() error { return b.body.Close() }
