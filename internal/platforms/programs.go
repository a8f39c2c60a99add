package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// programs runs hosts, as a user would on that platform: the command and an example, with the example's plug-in in C.
func (m *machine) programs(r *run) (*results, error) {
	goos, exe := r.os(), ""
	ext := fixture.Target{OS: goos}.Ext()
	if goos == "windows" {
		exe = ".exe"
	}
	dir := filepath.Join(m.work, "programs-"+goos+"-"+r.goarch)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	res := &results{output: make(map[string]string)}
	ran := func(what string, out []byte, err error) {
		res.ran++
		if err == nil {
			res.passed++
			return
		}
		res.failed = append(res.failed, what)
		res.output[what] = fmt.Sprintf("%s\n%v\n", out, err)
	}
	err := m.in("", r.environment(), "go", "build", r.tags(), "-o", dir+string(filepath.Separator), "./cmd/ferrule", "./examples/countvowels")
	ran("go build of the programs", nil, err)
	library := "countvowels" + ext
	err = m.run(r.programs[0], append(r.programs[1:], "-shared", "-O2", "-Iinclude", "-Isdk-c/include", "-o", filepath.Join(dir, library),
		"examples/countvowels/c/countvowels.c")...)
	ran("the plug-in", nil, err)
	if len(res.failed) > 0 {
		return res, nil
	}
	license := filepath.Join(fixture.Root(), "LICENSE")
	for _, c := range []struct {
		program string
		args    []string
		want    string
	}{
		{"ferrule", []string{"inspect", "--json", library}, `"name": "countvowels"`},
		{"ferrule", []string{"call", library, "count_vowels", "--in", "hello, world"}, `^3$`},
		{"ferrule", []string{"call", "--isolated", library, "count_vowels", "--in", "hello, world"}, `^3$`},
		{"ferrule", []string{"check", "--level", "10", library}, ` passes: `},
		{"countvowels", []string{library, license}, `^\d+ vowels in `},
	} {
		command := slices.Concat(r.exec, []string{filepath.Join(dir, c.program+exe)}, c.args)
		ctx, cancel := context.WithTimeout(m.ctx, 5*time.Minute)
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), r.env...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		cancel()
		if err == nil && !regexp.MustCompile(c.want).Match(out.Bytes()) {
			err = fmt.Errorf("expected %s", c.want)
		}
		fmt.Fprintf(m.log, "$ %s %q\n%s%s", c.program, c.args, out.Bytes(), errs.Bytes())
		ran(fmt.Sprintf("%s %q", c.program, c.args), append(out.Bytes(), errs.Bytes()...), err)
	}
	return res, nil
}
