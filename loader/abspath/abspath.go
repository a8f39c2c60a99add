// Package abspath makes paths absolute.
package abspath

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Of returns the path from the root of the file system, of the file that the system finds at path now; that may be missing. The error is that of
// os.Getwd. It may be called from any goroutine; nothing is opened.
//
// filepath.Abs takes link/.. for the folder that has the symbolic link. Windows does so, too. Other systems go to the parent of where the link
// leads, and so does this: what is up to the last .. has no symbolic links then. The working directory counts as well, as where it was entered
// by a link. The rest of path stays as it is, with its links.
func Of(path string) (string, error) {
	const up = string(filepath.Separator) + ".." + string(filepath.Separator)
	padded := string(filepath.Separator) + path + string(filepath.Separator)
	at := strings.LastIndex(padded, up)
	if at < 0 || runtime.GOOS == "windows" {
		return filepath.Abs(path)
	}
	head := padded[1 : at+len(up)-1]
	rest := strings.TrimPrefix(strings.TrimSuffix(padded[at+len(up)-1:], string(filepath.Separator)), string(filepath.Separator))
	if !filepath.IsAbs(head) {
		folder, err := os.Getwd()
		if err != nil {
			return "", err
		}
		head = folder + string(filepath.Separator) + head // not joined, which would take the .. out
	}
	resolved, err := filepath.EvalSymlinks(head)
	if err != nil { // whoever opens it is told
		return head + string(filepath.Separator) + rest, nil
	}
	return filepath.Join(resolved, rest), nil
}
