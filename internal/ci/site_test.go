package ci

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// faultsOfNavigation are what is wrong with docs/site/pages.txt: a page that the site would not have, one that is not there, one twice, and a line that is of no form.
func faultsOfNavigation(text string, pages []string) (found []string) {
	seen := map[string]bool{"README.md": true} // the front page
	grouped := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		page, _, _ := strings.Cut(strings.TrimSpace(line), "    ")
		depth := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case line == "":
		case depth == 0:
			grouped = true
		case depth != 2 && depth != 4 || !grouped:
			found = append(found, "found "+line+", expected a page in a group by two spaces, or below a page by four")
		case seen[page]:
			found = append(found, page+" is there twice")
		case !slices.Contains(pages, page):
			found = append(found, page+" is no page of the tree")
		default:
			seen[page] = true
		}
	}
	for _, page := range pages {
		if !seen[page] {
			found = append(found, page+" is not in the navigation of the site: add it to docs/site/pages.txt")
		}
	}
	return found
}

// Every page is in the navigation of the site: those of docs/, and every other one that is not a crate's own, of a new plug-in, or beside a test's data.
func TestSiteHasEveryPage(t *testing.T) {
	var pages []string
	root := fixture.Root()
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		name = filepath.ToSlash(name)
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains([]string{".git", "build", "target", "testdata", "templates", "node_modules"}, entry.Name()) || name == "sdk-rust/ferrule-macros"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".md"):
			pages = append(pages, name)
		}
		return nil
	}))
	require.Greater(t, len(pages), 80)
	text, err := os.ReadFile(filepath.Join(root, "docs", "site", "pages.txt"))
	require.NoError(t, err)
	assert.Empty(t, faultsOfNavigation(strings.ReplaceAll(string(text), "\r\n", "\n"), pages))
}

// A navigation that leaves a page out is found out, by what it leaves out.
func TestSiteThatLeavesAPageOut(t *testing.T) {
	pages := []string{"README.md", "docs/a.md", "docs/b.md"}
	const good = "First\n  docs/a.md    Its title\n    docs/b.md\n"
	assert.Empty(t, faultsOfNavigation(good, pages))
	for name, c := range map[string]struct{ old, new, fault string }{
		"a page that is left out": {"    docs/b.md\n", "", "docs/b.md is not in the navigation"},
		"a page that is gone":     {"docs/b.md", "docs/c.md", "docs/c.md is no page"},
		"a page twice":            {"docs/b.md\n", "docs/b.md\n  docs/a.md\n", "docs/a.md is there twice"},
		"a page in no group":      {"First\n", "", "found   docs/a.md"},
		"another depth":           {"    docs/b.md", "   docs/b.md", "found    docs/b.md"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := strings.Replace(good, c.old, c.new, 1)
			require.NotEqual(t, good, wrong)
			assert.Contains(t, strings.Join(faultsOfNavigation(wrong, pages), "\n"), c.fault)
		})
	}
}
