package sidecar

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/inspect"
	"github.com/ferrule-dev/ferrule/loader/internal/confine"
)

// shutIn finds what the program needs in a sandbox beside its own file. path is how errors call the plug-in, and script where its file is.
func (p *program) shutIn(path, script string, o *options) error {
	if runtime.GOOS != "linux" { // whose sandboxes keep no files from a program
		return nil
	}
	image, err := elf.NewFile(p.file)
	if err != nil {
		return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: p.path + ", which is no program in ELF", Err: err, Expected: "one, in a sandbox", Remedy: "Name what runs it with sidecar.WithInterpreter"}
	}
	if image.Class != elf.ELFCLASS64 || image.Data != elf.ELFDATA2LSB { // the system does not look at these, and may read another head than package elf
		return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: p.path + ", a program of " + image.Class.String() + ", " + image.Data.String(), Expected: "one of 64 bits, in a sandbox",
			Remedy: "Build it for " + runtime.GOARCH}
	}
	for _, part := range image.Progs {
		if part.Type != elf.PT_INTERP {
			continue
		}
		if len(p.runs) > 0 || part.Filesz > 4<<10 {
			return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: p.path + ", which names more than one linker, or one by a path of more than 4 KiB", Expected: "one linker, as every program has, in a sandbox",
				Remedy: "Build it anew"}
		}
		text := make([]byte, part.Filesz)
		if _, err := part.ReadAt(text, 0); err != nil {
			return notThere(path, p.path, err)
		}
		linker, _, _ := strings.Cut(string(text), "\x00") // as the system has it
		found, err := confine.FindNamed(p.path, linker)
		if errors.Is(err, os.ErrPermission) {
			return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: linker + " as the linker of " + p.path, Err: err, Expected: "a file that every user may read, or that lies beside the program, in a sandbox",
				Remedy: "Build it anew"}
		}
		if err != nil {
			return notThere(path, linker, err)
		}
		p.runs = append(p.runs, found)
	}
	lib := &inspect.Library{Format: inspect.ELF, OS: runtime.GOOS, Arch: runtime.GOARCH}
	lib.Needed, _ = image.ImportedLibraries()
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		if text, _ := image.DynString(tag); len(text) > 0 && lib.RunPath == nil {
			lib.RunPath, lib.RPath = strings.Split(text[0], ":"), tag == elf.DT_RPATH
		}
	}
	if p.reads, err = confine.Grants(p.path, lib); err != nil {
		return err
	}
	if p.path == script {
		return nil
	}
	files := []string{script}
	for _, file := range belongings(p.path) {
		// A script may name any program: what that keeps in share, as somebody's own, is not for the script to have.
		if o.interpreter != nil || filepath.Base(filepath.Dir(file)) != "share" || confine.Public(file) {
			files = append(files, file)
		}
	}
	for i, file := range append(files, p.wrappers...) {
		found, err := confine.Find(file)
		if i >= len(files) && o.interpreter == nil { // a script may name any file as the script that runs it
			found, err = confine.FindNamed(script, file)
		}
		if errors.Is(err, os.ErrPermission) {
			return &inspect.Error{Path: path, Kind: loader.ErrRead, Found: "the script " + file + ", which is to run it", Err: err, Expected: "a file that every user may read, or that lies beside the plug-in's, in a sandbox",
				Remedy: "Name the program that runs it with sidecar.WithInterpreter"}
		}
		if err != nil {
			return notThere(path, file, err)
		}
		if !slices.ContainsFunc(p.reads, func(other confine.File) bool { return other.Device == found.Device && other.Inode == found.Inode }) {
			p.reads = append(p.reads, found)
		}
	}
	return nil
}

// belongings are what an interpreter brings along: of the program PREFIX/bin/python3.13 that is python and libpython, of any version, in PREFIX/lib, lib64 and share; and the
// file by which a virtual environment of Python's is known.
func belongings(program string) (all []string) {
	name := strings.TrimRight(filepath.Base(program), "0123456789.")
	real, err := filepath.EvalSymlinks(program)
	if err != nil || name == "" {
		return nil
	}
	for _, prefix := range []string{filepath.Dir(filepath.Dir(program)), filepath.Dir(filepath.Dir(real))} {
		for _, folder := range []string{"lib", "lib64", "share"} {
			if folder != "share" && (prefix == "/" || prefix == "/usr" || prefix == "/usr/local") { // the system's
				continue
			}
			entries, _ := os.ReadDir(filepath.Join(prefix, folder)) // there may be none
			for _, e := range entries {
				version, ok := strings.CutPrefix(strings.TrimPrefix(e.Name(), "lib"), name)
				if ok && strings.Trim(version[:min(1, len(version))], "0123456789.") == "" {
					all = append(all, filepath.Join(prefix, folder, e.Name()))
				}
			}
		}
		all = append(all, filepath.Join(prefix, "pyvenv.cfg"))
	}
	return slices.DeleteFunc(all, func(path string) bool { return !exists(path) }) // a link to nowhere
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// byEnv returns what the program env would start for a script, and with which arguments: args is what stands behind it in the script's first line.
func byEnv(path string, args []string, o *options) ([]string, error) {
	refuse := func(found string) ([]string, error) {
		return nil, &inspect.Error{Path: path, Kind: loader.ErrRead, Found: found, Expected: "env with the name of a program, in a sandbox", Remedy: "Name the program with sidecar.WithInterpreter"}
	}
	if len(args) == 0 {
		return refuse("a first line with env alone")
	}
	words := args
	if rest, ok := strings.CutPrefix(args[0], "-S"); ok {
		words = strings.Fields(rest)
	}
	if len(words) == 0 || strings.HasPrefix(words[0], "-") || strings.ContainsAny(words[0], "=") || strings.ContainsAny(args[0], `"'\$`) {
		return refuse(fmt.Sprintf("a first line with env and %q", args[0]))
	}
	if strings.Contains(words[0], "/") {
		return words, nil
	}
	for _, variable := range o.environment() {
		folders, ok := strings.CutPrefix(variable, "PATH=")
		if !ok {
			continue
		}
		for _, folder := range filepath.SplitList(folders) {
			program := filepath.Join(folder, words[0])
			if info, err := os.Stat(program); err == nil && filepath.IsAbs(program) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return append([]string{program}, words[1:]...), nil
			}
		}
	}
	return refuse(fmt.Sprintf("a first line with env and %q, which is in no folder of PATH", words[0]))
}
