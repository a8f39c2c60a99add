package index

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cut returns the beginning of a text: at most limit bytes, whole characters.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// split returns the words of a text, each once, in their order: runs of letters and digits, in lower case, of MaxWord bytes at most.
func split(text string) []string {
	var all []string
	for _, w := range strings.FieldsFunc(text, isBetween) {
		if w = cut(strings.ToLower(w), MaxWord); !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}

// isBetween reports whether a character is not of a word.
func isBetween(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) }

// What a word counts for by where it is. The beginning of a word counts half.
const (
	inSummary = 8
	inKeyword = 20
	inName    = 50
	isName    = 200 // the words that are searched for are the name's, all of them
)

// minPrefix is how many characters a word that is searched for must have to stand for longer ones, too.
const minPrefix = 3

// terms are a hit's words, by where they are.
type terms struct{ name, keywords, summary []string }

func (h *Hit) terms() terms {
	return terms{split(h.Name), split(strings.Join(h.Keywords, " ")), split(h.Summary)}
}

// words calls visit with each word, once, and what it counts for at its best place.
func (t *terms) words(visit func(word string, score int)) {
	for _, w := range t.name {
		visit(w, inName)
	}
	for _, w := range t.keywords {
		if !slices.Contains(t.name, w) {
			visit(w, inKeyword)
		}
	}
	for _, w := range t.summary {
		if !slices.Contains(t.name, w) && !slices.Contains(t.keywords, w) {
			visit(w, inSummary)
		}
	}
}

// score says how well a plug-in matches all the words that are searched for; 0 is where it lacks one.
func (t *terms) score(query []string) int {
	sum := 0
	for _, q := range query {
		best := 0
		t.words(func(w string, score int) {
			switch {
			case w == q:
				best = max(best, score)
			case isPrefix(q, w):
				best = max(best, score/2)
			}
		})
		if best == 0 {
			return 0
		}
		sum += best
	}
	if len(t.name) == len(query) && !slices.ContainsFunc(query, func(q string) bool { return !slices.Contains(t.name, q) }) {
		sum += isName // neither has a word twice
	}
	return sum
}

// isPrefix reports whether a word that is searched for stands for a longer one.
func isPrefix(query, word string) bool {
	return len(query) < len(word) && strings.HasPrefix(word, query) && utf8.RuneCountInString(query) >= minPrefix
}

// ranked is a hit with its score. The best come first: by score, weight and name.
type ranked struct {
	*Hit
	score int
}

func (a ranked) compare(b ranked) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(b.Weight, a.Weight), strings.Compare(a.Name, b.Name))
}
