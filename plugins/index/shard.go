package index

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ferrule-dev/ferrule/plugins/internal/sentence"
	"github.com/ferrule-dev/ferrule/plugins/registry"
)

// nameShard returns the number of the shard by name that has a plug-in.
func nameShard(name string, shards int) int {
	sum := sha256.Sum256([]byte(name))
	return int(binary.BigEndian.Uint32(sum[:]) % uint32(shards))
}

// wordLine is a line of a shard by word: plug-ins come first, sorted by name, then words, sorted, each with its plug-ins, the best first.
type wordLine struct {
	Plugin *Hit   `json:"plugin,omitempty"`
	Word   string `json:"word,omitempty"`
	In     []int  `json:"in,omitempty"` // numbers of plug-ins in this shard, from 0
	Of     int    `json:"of,omitempty"` // how many have the word, where that is more than In has
}

// appendLine appends a value as a line of JSON.
func appendLine(b *bytes.Buffer, value any) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic(err) // structs of texts and numbers only
	}
}

// deflate compresses the lines of a shard.
func deflate(lines []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // no name, no time: the same bytes for the same lines
	_, err := z.Write(lines)
	if err := errors.Join(err, z.Close()); err != nil {
		panic(err) // a Buffer takes everything
	}
	return b.Bytes()
}

// errInflated is of a shard that grows beyond what is allowed.
var errInflated = fmt.Errorf("it inflates to more than %d bytes", maxInflated)

// bounded reads what is left of a limit, and fails beyond.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errInflated
	}
	return n, err
}

// lines inflates a shard and calls visit with each value in it. It holds one line at a time.
func lines[T any](shard []byte, visit func(*T) error) error {
	z, err := gzip.NewReader(bytes.NewReader(shard))
	if err != nil {
		return err
	}
	d := json.NewDecoder(&bounded{z, maxInflated})
	for {
		one := new(T)
		if err := d.Decode(one); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := visit(one); err != nil {
			return err
		}
	}
}

// checkNext says what is wrong with a plug-in that comes after another in a shard. The lengths bound the time that its words take.
func checkNext(name, last, summary string, keywords []string) error {
	switch {
	case !registry.ValidName(name):
		return fmt.Errorf("a plug-in has the name %.140q", name)
	case name <= last:
		return fmt.Errorf("%s comes after %s", name, last)
	case len(summary) > MaxSummary || len(keywords) > MaxKeywords:
		return fmt.Errorf("%s has a summary of %s and %s", name, sentence.Count(len(summary), "byte"), sentence.Count(len(keywords), "keyword"))
	}
	for _, k := range keywords {
		if len(k) > MaxWord {
			return fmt.Errorf("%s has a keyword of %s", name, sentence.Count(len(k), "byte"))
		}
	}
	return nil
}

// readNames looks for a plug-in in shard number at of the shards by name; nil is where it is not there. All of the shard is checked.
func readNames(shard []byte, at, shards int, name string) (found *Entry, err error) {
	last := ""
	err = lines(shard, func(e *Entry) error {
		if err := checkNext(e.Name, last, e.Summary, e.Keywords); err != nil {
			return err
		}
		switch {
		case nameShard(e.Name, shards) != at:
			return fmt.Errorf("%s does not belong to it", e.Name)
		case len(e.Versions) == 0:
			return fmt.Errorf("%s has no version", e.Name)
		}
		if last = e.Name; e.Name == name {
			found = e
		}
		return nil
	})
	return found, err
}

// wordShard is a shard by word.
type wordShard struct {
	plugins []*Hit
	words   []wordLine
}

// readWords reads the shard by word that has the words from one on up to below another; "" is no limit.
func readWords(shard []byte, from, below string) (*wordShard, error) {
	s := &wordShard{}
	var all []terms
	used, last := 0, ""
	var uses []bool
	err := lines(shard, func(l *wordLine) error {
		if h := l.Plugin; h != nil {
			if err := checkNext(h.Name, last, h.Summary, h.Keywords); err != nil {
				return err
			}
			switch {
			case l.Word != "" || len(s.words) > 0:
				return fmt.Errorf("plug-in %s stands among words", h.Name)
			case h.Version == "":
				return fmt.Errorf("%s has no version", h.Name)
			}
			last = h.Name
			s.plugins, all, uses = append(s.plugins, h), append(all, h.terms()), append(uses, false)
			return nil
		}
		switch n := len(s.words); {
		case l.Word == "" || !slices.Equal(split(l.Word), []string{l.Word}):
			return fmt.Errorf("a word is %.40q", l.Word)
		case n > 0 && l.Word <= s.words[n-1].Word:
			return fmt.Errorf("the word %s comes after %s", l.Word, s.words[n-1].Word)
		case l.Word < from || below != "" && l.Word >= below:
			return fmt.Errorf("the word %s does not belong to it", l.Word)
		case len(l.In) == 0 || len(l.In) > MaxHits || l.Of != 0 && l.Of <= len(l.In):
			return fmt.Errorf("the word %s has %d plug-ins of %d", l.Word, len(l.In), l.Of)
		}
		seen := map[int]bool{}
		for _, i := range l.In {
			if i < 0 || i >= len(s.plugins) || seen[i] {
				return fmt.Errorf("the word %s has plug-in number %d", l.Word, i)
			}
			if !all[i].has(l.Word) {
				return fmt.Errorf("%s does not have the word %s", s.plugins[i].Name, l.Word)
			}
			if seen[i] = true; !uses[i] {
				uses[i] = true
				used++
			}
		}
		s.words = append(s.words, *l)
		return nil
	})
	if err == nil && used != len(s.plugins) {
		err = fmt.Errorf("%d plug-ins have no word in it", len(s.plugins)-used)
	}
	return s, err
}

// has reports whether a plug-in has a word.
func (t *terms) has(word string) bool {
	return slices.Contains(t.name, word) || slices.Contains(t.keywords, word) || slices.Contains(t.summary, word)
}

// find returns the plug-ins of a word and of those that begin with it, and whether these are all in this shard.
func (s *wordShard) find(word string) (hits []*Hit, whole bool) {
	whole = true
	at, _ := slices.BinarySearchFunc(s.words, word, func(l wordLine, w string) int { return bytes.Compare([]byte(l.Word), []byte(w)) })
	for ; at < len(s.words) && (s.words[at].Word == word || isPrefix(word, s.words[at].Word)); at++ {
		for _, i := range s.words[at].In {
			hits = append(hits, s.plugins[i])
		}
		whole = whole && s.words[at].Of == 0
	}
	return hits, whole
}
