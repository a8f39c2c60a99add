package release_test

import (
	"bytes"
	"compress/gzip"
	"sync"
)

// bomb is 64 MiB of spaces in a few hundred KiB.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	piece := bytes.Repeat([]byte(" "), 1<<20)
	for range 64 {
		if err == nil {
			_, err = z.Write(piece)
		}
	}
	if err != nil || z.Close() != nil {
		panic("gzip into memory fails")
	}
	return b.Bytes()
})
