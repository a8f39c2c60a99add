// Command pages serves the releases in a folder on this machine as code hosts do, while a command runs, and then says how often it was asked. Each folder in it
// is a release, by its tag; releases/latest/download leads to the newest. In the file CONFIG it puts its address in the place of https://github.com.
//
//	pages FOLDER CONFIG COMMAND [ARGUMENT]...
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync/atomic"
)

// releases is what lies in the folder, below /OWNER/REPOSITORY/releases/.
func releases(folder string, asked *atomic.Int64) http.Handler {
	files := http.FileServer(http.Dir(folder))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		page, file, ok := strings.Cut(r.URL.Path, "/releases/latest/download/")
		if ok {
			tag, err := newest(folder)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			http.Redirect(w, r, page+"/releases/download/"+tag+"/"+file, http.StatusFound)
			return
		}
		_, file, ok = strings.Cut(r.URL.Path, "/releases/download/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		r.URL.Path = path.Clean("/" + file)
		files.ServeHTTP(w, r)
	})
}

// newest is the tag of the newest release. A prerelease is none, at code hosts neither.
func newest(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	tag, highest := "", []int(nil)
	for _, e := range entries {
		if n := numbers(e.Name()); n != nil && e.IsDir() && slices.Compare(n, highest) > 0 {
			tag, highest = e.Name(), n
		}
	}
	if tag == "" && err == nil {
		err = errors.New("there is no release")
	}
	return tag, err
}

// numbers are those of a tag such as v1.10.0; nil where it is another.
func numbers(tag string) []int {
	var major, minor, patch int
	_, err := fmt.Sscanf(tag, "v%d.%d.%d", &major, &minor, &patch)
	if err != nil || fmt.Sprintf("v%d.%d.%d", major, minor, patch) != tag {
		return nil
	}
	return []int{major, minor, patch}
}

func run(folder, config, name string, args []string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var asked atomic.Int64
	server := &http.Server{Handler: releases(folder, &asked)}
	go server.Serve(listener)
	defer server.Close()
	text, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, bytes.ReplaceAll(text, []byte("https://github.com"), []byte("http://"+listener.Addr().String())), 0o666)
	}
	if err != nil {
		return err
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	fmt.Println("requests:", asked.Load())
	return nil
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: pages FOLDER CONFIG COMMAND [ARGUMENT]...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, "pages:", err)
		os.Exit(1)
	}
}
