package browsertest

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"html"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// repository is where a site's links to files of the tree lead.
const repository = "https://github.com/ferrule-dev/ferrule/"

// site is a folder of pages behind a server, and a tab in which they are looked at.
type site struct {
	*page
	folder, url, axe string
	pages            []string // their paths in the folder, with slashes
	revision         string   // to whose files it leads

	ids        map[string]map[string]bool // the places in each page
	links      map[string][]string        // what each leads to
	measured   map[string]bool            // colours whose contrast axe has measured, and found to do
	unmeasured map[string]string          // others, with a page that has them
	count      int                        // of texts that were measured
}

// served has the folder served, and opens a tab.
func served(t *testing.T, ctx context.Context, folder, revision string) *site {
	t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(server.Close)
	s := &site{page: open(t, ctx, "about:blank", 1280, "light"), folder: folder, revision: revision, url: server.URL + "/", axe: axe(t), ids: map[string]map[string]bool{}, links: map[string][]string{},
		measured: map[string]bool{}, unmeasured: map[string]string{}}
	require.NoError(t, filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if name, _ := filepath.Rel(folder, path); filepath.Ext(path) == ".html" {
			s.pages = append(s.pages, filepath.ToSlash(name))
		}
		return err
	}))
	return s
}

// window has the pages shown as wide as that, in a colour scheme.
func (s *site) window(width int64, scheme string) {
	s.t.Helper()
	call(s.page, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1})
	call(s.page, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// drawer has the navigation come in, which is out of sight in a narrow window.
func (s *site) drawer() {
	s.t.Helper()
	s.do(chromedp.Click(".mobile-header label[for=__navigation]"))
	s.until("document.querySelector('.sidebar-drawer').getBoundingClientRect().left === 0")
}

// heard are the faults that the browser has found since it was last asked, and the requests that left the server.
func (s *site) heard() (found []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fault := range s.faults {
		if !strings.HasPrefix(fault, "console.log: ") { // the theme says there that its switch was used
			found = append(found, fault)
		}
	}
	for _, url := range s.asked {
		if !strings.HasPrefix(url, s.url) && !strings.HasPrefix(url, "data:") && url != "about:blank" {
			found = append(found, "a request to "+url)
		}
	}
	s.faults, s.asked = nil, nil
	return found
}

// stickingOut is what makes a page wider than its window: what has a box of its own to be scrolled in does not, nor what is fixed to the window.
const stickingOut = `(() => {
	const found = [], wide = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth > innerWidth) found.push("the page is " + document.documentElement.scrollWidth + " wide, in a window of " + innerWidth);
	const apart = e => { for (; e && e !== document.body; e = e.parentElement) { const s = getComputedStyle(e); if (s.position === "fixed" || /auto|scroll/.test(s.overflowX)) return true } return false };
	for (const e of document.body.querySelectorAll("*")) {
		const box = e.getBoundingClientRect();
		const end = Math.max(box.right, getComputedStyle(e).display === "inline" ? 0 : box.left + e.scrollWidth);
		if (box.width === 0 || end <= wide + 0.5 || apart(e)) continue;
		found.push(e.outerHTML.slice(0, 80) + " goes on to " + end + ", in a window of " + innerWidth);
	}
	return found.slice(0, 5);
})()`

// measured is what axe finds: what people cannot read or reach. The contrast of text that is scrolled out of sight, or that is one letter, it does not measure; such text
// has a colour on a background, as text has that it did measure.
const measured = `(async options => {
	const found = await axe.run(document, {...options, elementRef: true, resultTypes: ["violations", "incomplete", "passes"]});
	const colours = e => {
		const colour = getComputedStyle(e).color;
		for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (c !== "rgba(0, 0, 0, 0)") return colour + " on " + c }
		return colour + " on nothing";
	};
	const of = kind => found[kind].filter(f => f.id === "color-contrast").flatMap(f => f.nodes.map(n => colours(n.element)));
	return {
		Violations: found.violations.flatMap(f => f.nodes.slice(0, 3).map(n => f.id + ": " + n.html.slice(0, 200) + ": " + n.failureSummary.replace(/\s+/g, " "))),
		Measured: [...new Set(of("passes"))], Unmeasured: [...new Set(of("incomplete"))], Texts: of("passes").length,
	};
})`

const (
	allOfWCAG = `({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})`
	contrast  = `({runOnly: {type: "rule", values: ["color-contrast"]}})`
)

// measure runs axe on the page as it is shown.
func (s *site) measure(options string) (found []string) {
	s.t.Helper()
	s.do(chromedp.Evaluate[chromedp.Void](s.axe))
	had := value[struct {
		Violations, Measured, Unmeasured []string
		Texts                            int
	}](s.page, measured+options)
	for _, colours := range had.Measured {
		s.measured[colours] = true
	}
	for _, colours := range had.Unmeasured {
		s.unmeasured[colours] = value[string](s.page, "location.pathname")
	}
	s.count += had.Texts
	return had.Violations
}

// inspect opens a page, and returns what is wrong with it: wide in light colours, narrow in dark ones. It notes the page's places and links. axe is asked for one of
// the two, which takes a second or two each time, and for both where whole is set.
func (s *site) inspect(name string, wide, whole bool) (found []string) {
	s.t.Helper()
	s.window(1280, "light")
	s.do(chromedp.Navigate(s.url + name))
	had := value[struct{ IDs, Links []string }](s.page, `({IDs: [...document.querySelectorAll("[id]")].map(e => e.id), Links: [...document.querySelectorAll("a[href]")].map(a => a.href)})`)
	s.ids[name], s.links[name] = map[string]bool{}, had.Links
	for _, id := range had.IDs {
		s.ids[name][id] = true
	}
	found = append(found, value[[]string](s.page, stickingOut)...)
	if wide || whole {
		found = append(found, s.measure(allOfWCAG)...)
	}
	s.window(360, "dark")
	found = append(found, value[[]string](s.page, stickingOut)...)
	if !wide || whole {
		found = append(found, s.measure(contrast)...)
	}
	return append(found, s.heard()...)
}

// nowhere returns the links that lead to what is not there: another page, a place in one, a file of the tree; and those that lead away to a page that the site has.
func (s *site) nowhere() (found []string) {
	for _, from := range slices.Sorted(maps.Keys(s.links)) {
		for _, link := range s.links[from] {
			fault := func(what string) { found = append(found, fmt.Sprintf("%s: a link to %s: %s", from, link, what)) }
			u, err := url.Parse(link)
			if err != nil {
				fault(err.Error())
				continue
			}
			if rest, ok := strings.CutPrefix(link, repository); ok {
				kind, rest, _ := strings.Cut(rest, "/")
				if kind != "blob" && kind != "tree" {
					continue
				}
				revision, path, _ := strings.Cut(rest, "/")
				path, _, _ = strings.Cut(path, "#")
				if revision != s.revision {
					fault("expected " + s.revision + ", of which the site is")
				} else if _, err := os.Stat(filepath.Join(fixture.Root(), filepath.FromSlash(path))); err != nil {
					fault("it is not in the tree")
				} else if strings.HasSuffix(path, ".md") {
					fault("a page, which the site does not have, or which is to be linked to there")
				}
				continue
			}
			rest, ok := strings.CutPrefix(link, s.url)
			if !ok {
				continue // another site: nothing here says whether it is there
			}
			path, _, _ := strings.Cut(rest, "#")
			path, _, _ = strings.Cut(path, "?")
			path = cmp.Or(path, "index.html")
			if s.ids[path] == nil {
				if info, err := os.Stat(filepath.Join(s.folder, filepath.FromSlash(path))); err != nil || info.IsDir() {
					fault("there is no such page")
				}
			} else if u.Fragment != "" && !s.ids[path][u.Fragment] {
				fault("the page has no such place")
			}
		}
	}
	return found
}

// faultsOfSite opens all pages, and returns what is wrong with each.
func (s *site) faultsOfSite(whole bool) (found []string) {
	s.t.Helper()
	for _, name := range s.pages {
		wide := crc32.ChecksumIEEE([]byte(name))%2 == 0 // about half of them; a page stays in its half when others are added
		for _, fault := range s.inspect(name, wide, whole) {
			found = append(found, name+": "+fault)
		}
	}
	for colours, at := range s.unmeasured {
		if !s.measured[colours] {
			found = append(found, fmt.Sprintf("%s: no contrast was measured of %s", at, colours))
		}
	}
	return append(found, s.nowhere()...)
}

// built has the site built as `make site` does.
func built(t *testing.T) string {
	t.Helper()
	root := fixture.Root()
	fixture.Tool(t, filepath.Join(root, "build", "sphinx", "bin", "sphinx-build"), "make site")
	// What it is made of is read here, too, so that the go command does not take a result of other pages for this one's.
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && slices.Contains([]string{".git", "build", "target"}, entry.Name()) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" || filepath.Base(filepath.Dir(path)) == "site" && !entry.IsDir() {
			_, err = os.ReadFile(path)
		}
		return err
	}))
	folder := filepath.Join(t.TempDir(), "site")
	cmd := exec.Command(fixture.Tool(t, "make", "apt-get install make"), "-C", root, "site", "SITE="+folder)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return folder
}

// ofTheTree is what links to the repository name: the tag of the tree's commit, or the commit.
func ofTheTree(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(fixture.Root(), ".git")); err != nil {
		return "main"
	}
	out, err := exec.Command(fixture.Tool(t, "git", "apt-get install git"), "-C", fixture.Root(), "describe", "--tags", "--exact-match", "--match", "v[0-9]*.[0-9]*.[0-9]*").Output()
	if err != nil {
		out, err = exec.Command("git", "-C", fixture.Root(), "rev-parse", "HEAD").Output()
	}
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// TestSiteIsOfItsTag: links to files lead to the tag of the release whose pages they are in, to the commit where it has none, and to the main branch where there is no git.
func TestSiteIsOfItsTag(t *testing.T) {
	t.Parallel()
	root, dir := fixture.Root(), t.TempDir()
	sphinx := filepath.Join(root, "build", "sphinx")
	fixture.Tool(t, filepath.Join(sphinx, "bin", "sphinx-build"), "make site")
	program := fixture.Tool(t, "make", "apt-get install make")
	git := func(args ...string) string {
		cmd := exec.Command(fixture.Tool(t, "git", "apt-get install git"), append([]string{"-C", dir, "-c", "user.name=test", "-c", "user.email="}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	require.NoError(t, os.CopyFS(filepath.Join(dir, "docs", "site"), os.DirFS(filepath.Join(root, "docs", "site"))))
	for name, text := range map[string]string{"README.md": "# Front\n\n[a file](main.go)\n", "docs/a.md": "# Page\n\n[a folder](site)\n", "docs/site/pages.txt": "First\n  docs/a.md\n", "main.go": "package main\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(text), 0o666))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "build"), 0o777))
	require.NoError(t, os.Symlink(sphinx, filepath.Join(dir, "build", "sphinx")))
	is := func() string {
		cmd := exec.Command(filepath.Join(sphinx, "bin", "python"), "-c", "import conf; print(conf.REVISION)")
		cmd.Dir = filepath.Join(dir, "docs", "site")
		out, err := cmd.Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	assert.Equal(t, "main", is())
	git("init", "--quiet")
	git("add", "README.md", "docs", "main.go")
	git("commit", "--quiet", "--message", "a commit")
	for _, tag := range []string{"vague", "other/v2.0.0", "v0.11.0-rc.1"} {
		git("tag", tag)
	}
	assert.Equal(t, git("rev-parse", "HEAD"), is())
	git("tag", "v0.9.0")
	git("tag", "v0.10.0")

	cmd := exec.Command(program, "-C", dir, "-f", filepath.Join(root, "Makefile"), "--assume-old=build/sphinx", "site", "SITE=site")
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	for name, link := range map[string]string{"index.html": "blob/v0.10.0/main.go", "docs/a.html": "tree/v0.10.0/docs/site"} {
		text, err := os.ReadFile(filepath.Join(dir, "site", filepath.FromSlash(name)))
		require.NoError(t, err)
		links := regexp.MustCompile(regexp.QuoteMeta(repository)+`[^"]*`).FindAllString(string(text), -1)
		assert.Equal(t, []string{repository + link}, links, name)
	}
}

// words are the texts of a site's pages, in small letters.
func (s *site) words() map[string]string {
	s.t.Helper()
	texts := map[string]string{}
	for _, name := range s.pages {
		text, err := os.ReadFile(filepath.Join(s.folder, filepath.FromSlash(name)))
		require.NoError(s.t, err)
		article := regexp.MustCompile(`(?s)<article.*</article>`).FindString(string(text))
		texts[name] = strings.ToLower(html.UnescapeString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(article, "")))
	}
	return texts
}

// own is a word that one page alone has. No other one has a word with the same beginning, since a search takes those for forms of it.
func own(t *testing.T, texts map[string]string, name string) string {
	t.Helper()
	words := regexp.MustCompile(`\b[a-z]{8,12}\b`).FindAllString(texts[name], -1)
	slices.Sort(words)
	for _, word := range words {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(texts)), func(other string) bool { return other != name && strings.Contains(texts[other], word[:6]) }) {
			return word
		}
	}
	t.Fatalf("%s has no word of its own", name)
	return ""
}

// isDark is whether the page has a dark background.
const isDark = `getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).every(c => c < 64)`

// TestSiteInChromium: every page of the site opens without an error and without anything from elsewhere, each link in it leads somewhere, it fits the window, and it can be
// read: about half of the pages wide in light colours, the others narrow in dark ones; with FERRULE_SITE each page both ways. A search finds the page that has a word. Without
// JavaScript there is all but the search.
func TestSiteInChromium(t *testing.T) {
	ctx := chromium(t)
	s := served(t, ctx, built(t), ofTheTree(t))
	require.Greater(t, len(s.pages), 80)
	faultless := func(t *testing.T, options string) {
		t.Helper()
		assert.Empty(t, value[[]string](s.page, stickingOut))
		assert.Empty(t, s.measure(options))
	}
	// part is a test in the same tab.
	part := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			s.t = t
			test(t)
			assert.Empty(t, s.heard())
		})
		s.t = t
	}
	part("search", func(t *testing.T) {
		texts := s.words()
		for i, name := range []string{"index.html", "docs/macos.html", "sdk-c/README.html"} {
			word := own(t, texts, name)
			width, scheme := int64(1280), "light"
			if i == 1 {
				width, scheme = 360, "dark"
			}
			s.window(width, scheme)
			s.do(chromedp.Navigate(s.url + "docs/start.html"))
			if width < 500 {
				s.drawer()
			}
			s.do(chromedp.SendKeys(".sidebar-search", word+"\r"))
			s.until("location.pathname === '/search.html' && document.querySelectorAll('ul.search li').length > 0")
			s.until("document.querySelector('.search-summary')?.textContent.startsWith('Search finished') === true")
			s.until("document.querySelectorAll('ul.search li p.context').length > 0") // a piece of the page, which is fetched
			assert.Equal(t, []string{s.url + name}, value[[]string](s.page, "[...document.querySelectorAll('ul.search li > a')].map(a => a.href.replace(/[?#].*/, ''))"), word)
			assert.Contains(t, strings.ToLower(value[string](s.page, "document.querySelector('ul.search li').textContent")), word)
			faultless(t, allOfWCAG)
			s.do(chromedp.Click("ul.search li > a"))
			s.until(fmt.Sprintf("document.readyState === 'complete' && location.pathname.replace(/[/]$/, '/index.html') === %q", "/"+name)) // the server has / for the front page
			assert.Contains(t, strings.ToLower(value[string](s.page, "document.querySelector('article').textContent")), word)
		}
		s.do(chromedp.Navigate(s.url + "search.html?q=xyzzyplugh"))
		s.until("document.querySelector('.search-summary')?.textContent.includes('did not match any documents') === true")
		faultless(t, allOfWCAG)
	})
	part("the switch of colours", func(t *testing.T) {
		for _, scheme := range []string{"light", "dark"} {
			s.window(1280, scheme)
			s.do(chromedp.Navigate(s.url+"index.html"), chromedp.Evaluate[chromedp.Void]("localStorage.removeItem('theme')"), chromedp.Navigate(s.url+"index.html"))
			assert.Equal(t, scheme == "dark", value[bool](s.page, isDark))
			s.do(chromedp.Click(".theme-toggle-content .theme-toggle"))
			assert.Equal(t, scheme == "light", value[bool](s.page, isDark), "the other one")
			faultless(t, contrast)
			drawnOn := map[string]string{"light": "rgb(255, 255, 255)", "dark": "rgb(19, 20, 22)"}[scheme] // the picture's colours are those of the system
			assert.Equal(t, drawnOn, value[string](s.page, "getComputedStyle(document.querySelector('article img')).backgroundColor"))
			s.do(chromedp.Navigate(s.url + "docs/start.html"))
			assert.Equal(t, scheme == "light", value[bool](s.page, isDark), "the next page has it, too")
		}
		s.do(chromedp.Evaluate[chromedp.Void]("localStorage.removeItem('theme')"))
	})
	part("without JavaScript", func(t *testing.T) {
		call(s.page, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		defer call(s.page, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{})
		for _, width := range []int64{360, 1280} {
			for _, scheme := range []string{"light", "dark"} {
				s.window(width, scheme)
				s.do(chromedp.Navigate(s.url + "index.html"))
				assert.Equal(t, scheme == "dark", value[bool](s.page, isDark))
				assert.Contains(t, value[string](s.page, "document.querySelector('article').innerText"), "Native plug-ins for Go.")
				assert.Empty(t, value[[]string](s.page, stickingOut))
				if width < 500 {
					s.drawer()
				}
				s.do(chromedp.Click(".sidebar-tree a[href='docs/tour.html']"))
				s.until("location.pathname === '/docs/tour.html' && document.querySelector('h1')?.innerText.startsWith('The command: a tour') === true")
			}
		}
		s.do(chromedp.Navigate(s.url + "search.html"))
		assert.Contains(t, value[string](s.page, "document.querySelector('article').innerText"), "JavaScript")
	})
	part("pages", func(t *testing.T) {
		for _, fault := range s.faultsOfSite(os.Getenv("FERRULE_SITE") != "") {
			t.Error(fault)
		}
		assert.Greater(t, s.count, 50*len(s.pages), "contrast was measured of each text")
	})
}

// A site that is wrong is found out, by what is wrong with it.
func TestSiteInChromiumThatIsWrong(t *testing.T) {
	ctx := chromium(t)
	const style = `body { margin: 0; color: #111; background: #fff } a { color: #00c } @media (prefers-color-scheme: dark) { body { color: #eee; background: #111 } a { color: #8cf } }`
	pages := map[string]struct{ head, body, fault string }{
		"good":         {"", `<p id="here">text, <a href="other.html#there">a page</a>, <a href="` + repository + `blob/v1.2.3/go.mod">a file</a>, <a href="#here">a place</a></p>`, ""},
		"other":        {"", `<p id="there">text</p><div style="overflow-x: auto" tabindex="0"><div style="width: 2000px">wide</div></div>`, ""},
		"page":         {"", `<a href="gone.html">x</a>`, "gone.html: there is no such page"},
		"place":        {"", `<a href="good.html#gone">x</a>`, "good.html#gone: the page has no such place"},
		"own-place":    {"", `<a href="#gone">x</a>`, "own-place.html#gone: the page has no such place"},
		"file":         {"", `<a href="` + repository + `blob/v1.2.3/gone.go">x</a>`, "gone.go: it is not in the tree"},
		"away":         {"", `<a href="` + repository + `blob/v1.2.3/README.md">x</a>`, "README.md: a page, which the site does not have"},
		"revision":     {"", `<a href="` + repository + `blob/main/go.mod">x</a>`, "go.mod: expected v1.2.3, of which the site is"},
		"console":      {"", `<script>console.error("wrong")</script>`, "console.error"},
		"exception":    {"", `<script>nothing.of.it()</script>`, "nothing is not defined"},
		"image":        {"", `<img src="gone.png" alt="x">`, "404"},
		"elsewhere":    {"", `<img src="http://elsewhere.example/x.png" alt="x">`, "a request to http://elsewhere.example/x.png"},
		"wide":         {"", `<div style="width: 2000px">wide</div>`, "the page is 2000 wide"},
		"wide-hidden":  {"body { overflow-x: hidden }", `<p style="white-space: nowrap">` + strings.Repeat("wide ", 30) + `</p>`, "in a window of 360"},
		"faint":        {"p { color: #bbb; background: #fff }", `<p>faint</p>`, "color-contrast: <p>faint</p>"},
		"faint-dark":   {"@media (prefers-color-scheme: dark) { p { color: #333 } }", `<p>faint</p>`, "color-contrast: <p>faint</p>"},
		"unreachable":  {"", `<pre style="overflow: auto"><span>` + strings.Repeat("wide ", 300) + `</span></pre>`, "scrollable-region-focusable"},
		"picture":      {"", `<img src="data:," width="8" height="8">`, "image-alt"},
		"not-measured": {"", `<p style="color: #ddd; background: #eee">i</p>`, "no contrast was measured of rgb(221, 221, 221) on rgb(238, 238, 238)"},
	}
	folder := t.TempDir()
	for name, p := range pages {
		text := `<!doctype html><html lang="en"><head><title>x</title><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>` + style + p.head + `</style></head><body><main>` + p.body + `</main></body></html>`
		require.NoError(t, os.WriteFile(filepath.Join(folder, name+".html"), []byte(text), 0o600))
	}
	s := served(t, ctx, folder, "v1.2.3")
	found := map[string][]string{}
	for _, fault := range s.faultsOfSite(true) {
		name, what, _ := strings.Cut(fault, ".html: ")
		name = strings.TrimPrefix(name, "/")
		found[name] = append(found[name], what)
	}
	for name, p := range pages {
		if p.fault == "" {
			assert.Empty(t, found[name], name)
			continue
		}
		assert.NotEmpty(t, found[name], name)
		assert.Contains(t, strings.Join(found[name], "\n"), p.fault, name)
	}
}
