package isolated

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	workerside "github.com/ferrule-dev/ferrule/loader/internal/worker"
)

// Markers are found wherever the file's parts are cut, and nothing else is taken for one.
func TestFindMarks(t *testing.T) {
	plain, boxed := []byte(workerside.MarkerPlain), []byte(workerside.MarkerSandbox)
	both := marks{"plain": {workerside.Version: true}, "sandbox": {workerside.Version: true}}
	for _, before := range []int{0, 1, 256<<10 - len(plain) - 1, 256<<10 - len(plain)/2, 256 << 10, 1 << 20} {
		file := append(bytes.Repeat([]byte("github.com/"), before/11+1)[:before:before], plain...)
		file = append(append(file, make([]byte, 300<<10)...), boxed...)
		for name, reader := range map[string]io.Reader{
			"whole":      bytes.NewReader(file),
			"odd pieces": &pieces{file, 1013},
			"data error": iotest.DataErrReader(bytes.NewReader(file)),
		} {
			found, err := findMarks(reader)
			require.NoError(t, err)
			assert.Equal(t, both, found, "%d bytes before, %s", before, name)
		}
	}
	for _, file := range []string{"", "x", workerside.MarkerBegin, workerside.MarkerBegin + "plain/1",
		workerside.MarkerBegin + "plain" + workerside.MarkerEnd[1:],
		workerside.MarkerBegin + string(make([]byte, 100)) + workerside.MarkerEnd, workerside.MarkerPlain[1:]} {
		found, err := findMarks(bytes.NewReader([]byte(file)))
		require.NoError(t, err)
		assert.Empty(t, found, "%q", file)
	}
	found, err := findMarks(bytes.NewReader([]byte(workerside.MarkerBegin + workerside.MarkerBegin + "plain/7" + workerside.MarkerEnd)))
	require.NoError(t, err)
	assert.Equal(t, marks{"plain": {"7": true}}, found, "the beginning alone is in every host")
	_, err = findMarks(iotest.ErrReader(errors.New("no disk")))
	assert.ErrorContains(t, err, "no disk")
}

// pieces reads n bytes at a time.
type pieces struct {
	data []byte
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.data[:min(p.n, len(p.data))])
	p.data = p.data[n:]
	return n, nil
}
