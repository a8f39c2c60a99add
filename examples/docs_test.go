package examples_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/plugins/config"
)

// pagesOfTheSystem are the pages whose code is compiled, most of them on package plugins, each with what its code takes for granted.
var pagesOfTheSystem = map[string]string{
	"system.md": `
type Order struct{ ID string }
type Checkout func(context.Context, Cart) (Order, error)
func (c Cart) order(d Discount) Order { return Order{} }
var receipts = &builtin.Plugin{Name: "receipts", Version: "1.0.0"}
`,
	"hooks.md": `
type Cart struct{ TotalInCents int64 }
type Discount struct{ DiscountPercent int64 }
type Order struct{ ID string }
type Event struct{ Kind string }
var cart Cart
var order Order
var discount *plugins.FirstPoint[Cart, Discount]
`,
	"system-plug-in.md": `
type Cart struct{ ProvidedEmail string }
type Discount struct{ DiscountPercent int64 }
`,
	"operating.md": "",
	"speed.md":     "var path string\n",
}

// codeBlocks returns the blocks of a page in one language.
func codeBlocks(t *testing.T, page, language string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixture.Root(), "docs", page))
	require.NoError(t, err)
	for _, b := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, b[1])
	}
	return all
}

// pageProgram makes one Go file of blocks: of each a function, but for those that are declarations. A variable that a block only shows is used.
func pageProgram(given string, blocks []string) string {
	body := "var ctx = context.Background()\nvar sys *plugins.System\n" + given + "\n"
	for i, block := range blocks {
		if regexp.MustCompile(`^(type|func) `).MatchString(block) {
			body += block
			continue
		}
		body += fmt.Sprintf("func block%d() error {\n%s", i, block)
		for _, shown := range regexp.MustCompile(`(?m)^(?:var (\w+) .*|(\w+(?:, \w+)*) :=.*)$`).FindAllStringSubmatch(block, -1) {
			for _, name := range strings.Split(shown[1]+shown[2], ", ") {
				if name != "_" {
					body += "_ = " + name + "\n"
				}
			}
		}
		body += "return nil\n}\n"
	}
	const ferrule = "github.com/ferrule-dev/ferrule/"
	head := "package docs\n"
	for _, path := range []string{"context", "errors", "fmt", "log/slog", "time", ferrule + "loader", ferrule + "loader/builtin", ferrule + "plugins"} {
		if regexp.MustCompile(`\b` + filepath.Base(path) + `\.`).MatchString(body) {
			head += fmt.Sprintf("import %q\n", path)
		}
	}
	return head + body
}

// The Go code on the pages on the core system compiles, and go vet has nothing to say to it. A whole file is a plug-in's: main.TestHooksInGo of the command tries it.
func TestPagesOfTheSystem(t *testing.T) {
	for page, given := range pagesOfTheSystem {
		t.Run(page, func(t *testing.T) {
			blocks := slices.DeleteFunc(codeBlocks(t, page, "go"), regexp.MustCompile(`(?m)^package `).MatchString)
			if page == "operating.md" {
				require.Empty(t, blocks, "it is for those who have no code")
				return
			}
			require.NotEmpty(t, blocks)
			vet := func(blocks []string) (string, error) {
				build := filepath.Join(fixture.Root(), "build") // within go.work, and not in Git
				require.NoError(t, os.MkdirAll(build, 0o777))
				dir, err := os.MkdirTemp(build, "page-")
				require.NoError(t, err)
				defer os.RemoveAll(dir)
				require.NoError(t, os.WriteFile(filepath.Join(dir, "page.go"), []byte(pageProgram(given, blocks)), 0o644))
				cmd := exec.Command(fixture.Tool(t, "go", "see https://go.dev/dl"), "vet", ".")
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			out, err := vet(blocks)
			assert.NoError(t, err, "%s\n%s", out, pageProgram(given, blocks))
			_, err = vet(append(slices.Clone(blocks), "sys.NoSuchMethod()\n"))
			assert.Error(t, err, "this test can fail")
		})
	}
}

// Every config.yaml on the pages is one.
func TestConfigsOnPages(t *testing.T) {
	n := 0
	for page := range pagesOfTheSystem {
		for _, block := range codeBlocks(t, page, "yaml") {
			_, err := config.Parse(page, []byte(block))
			assert.NoError(t, err, "%s: %s", page, block)
			n++
		}
	}
	assert.GreaterOrEqual(t, n, 3)
}
