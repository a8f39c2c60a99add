package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
)

// machine installs what the platforms need on this machine, each thing once.
type machine struct {
	ctx   context.Context
	quick bool
	work  string    // for what is not installed, but made or unpacked
	log   io.Writer // gets what the programs say
	done  map[string]error
	ends  []func() // what end does
}

// once does something the first time that it is asked for, and returns the same error each time.
func (m *machine) once(name string, do func() error) error {
	if err, ok := m.done[name]; ok {
		return err
	}
	err := do()
	m.done[name] = err
	return err
}

// run runs a program. Its error ends with the last line that the program wrote.
func (m *machine) run(program string, args ...string) error { return m.in("", nil, program, args...) }

// in runs a program in a folder, with more in its environment.
func (m *machine) in(dir string, env []string, program string, args ...string) error {
	cmd := exec.CommandContext(m.ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, append(os.Environ(), env...), 10*time.Second // what it leaves behind may keep its output open
	out, err := cmd.CombinedOutput()
	fmt.Fprintf(m.log, "$ %s %s\n%s", program, strings.Join(args, " "), out)
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s: %w: %s", filepath.Base(program), err, lines[len(lines)-1])
	}
	return nil
}

// root runs a program as root.
func (m *machine) root(program string, args ...string) error {
	if os.Getuid() == 0 {
		return m.in("", []string{"DEBIAN_FRONTEND=noninteractive"}, program, args...)
	}
	return m.run("sudo", append([]string{"DEBIAN_FRONTEND=noninteractive", program}, args...)...)
}

// packages installs Debian packages.
func (m *machine) packages(names ...string) error {
	return m.once("packages "+strings.Join(names, " "), func() error {
		var missing []string
		for _, name := range names {
			if out, err := exec.Command("dpkg-query", "-W", "-f", "${Status}", name).Output(); err != nil || !strings.HasSuffix(string(out), " installed") {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		if err := m.once("apt-get update", func() error { return m.root("apt-get", "update", "-qq") }); err != nil {
			return err
		}
		return m.root("apt-get", append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)...)
	})
}

// version returns the first number with a dot that a program says of itself, or the first number.
func version(program string, args ...string) string {
	out, _ := exec.Command(program, args...).Output()
	return cmp.Or(regexp.MustCompile(`\d+\.\d+`).FindString(string(out)), regexp.MustCompile(`\d+`).FindString(string(out)))
}

// wine makes a Debian 13 with its Wine in a folder: that of Debian 12 cannot remove files the way Go asks for. It returns
// the command that runs a Windows program.
func (m *machine) wine() ([]string, error) {
	root := filepath.Join(m.work, "_wine")
	command := []string{"sh", filepath.Join(fixture.Root(), "internal", "platforms", "wine.sh"), root}
	if os.Getuid() != 0 {
		command = append([]string{"sudo", "--preserve-env=TMPDIR,CI," + fixture.Built + "," + fixture.Emulated}, command...)
	}
	return command, m.once("wine", func() error {
		if err := m.packages("debootstrap"); err != nil {
			return err
		}
		if !exists(filepath.Join(root, "usr", "lib", "wine")) {
			if err := m.root("debootstrap", "--variant=minbase", "--include=wine64", "trixie", root); err != nil {
				return err
			}
		}
		// Wine's services live for as long as a program does, and keep the output of the one that started them open. So one
		// that has no output comes first, which makes the folder that stands for a Windows, and then one that stays until its
		// input ends.
		if err := exec.CommandContext(m.ctx, command[0], append(command[1:], "wineboot")...).Run(); err != nil {
			return fmt.Errorf("wineboot: %w", err)
		}
		stays := exec.CommandContext(m.ctx, command[0], append(command[1:], "cmd", "/k")...)
		input, err := stays.StdinPipe()
		if err != nil {
			return err
		}
		if err := stays.Start(); err != nil {
			return err
		}
		m.ends = append(m.ends, func() { _ = input.Close(); _ = stays.Wait() })
		return nil
	})
}

// binfmt is where the kernel is told of interpreters.
const binfmt, binfmtRule = "/proc/sys/fs/binfmt_misc", "ferrule-aarch64"

// emulator has the kernel run programs for arm64 in qemu-user, the workers that tests start included, with the libraries of
// Debian's cross compiler.
func (m *machine) emulator() error {
	return m.once("emulator", func() error {
		if err := m.packages("qemu-user"); err != nil {
			return err
		}
		if err := m.root("sh", "-c", "[ -e "+binfmt+"/register ] || mount -t binfmt_misc binfmt_misc "+binfmt+
			"; mkdir -p /etc/qemu-binfmt; [ -e /etc/qemu-binfmt/aarch64 ] || ln -s /usr/aarch64-linux-gnu /etc/qemu-binfmt/aarch64"); err != nil {
			return err
		}
		if rules, err := filepath.Glob(binfmt + "/*aarch64*"); err != nil || len(rules) > 0 {
			return err // it knows already
		}
		// The header of an ELF file: 64 bits, the low byte first, System V; a program or a library; for this processor.
		const magic = `\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00`
		const mask = `\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff`
		rule := ":" + binfmtRule + ":M::" + magic + ":" + mask + ":/usr/bin/qemu-aarch64:"
		m.ends = append(m.ends, func() {
			_ = m.root("sh", "-c", "printf -- -1 >"+binfmt+"/"+binfmtRule+"; rm -f /etc/qemu-binfmt/aarch64")
		})
		return m.root("sh", "-c", "printf '%s' \"$1\" >"+binfmt+"/register", "sh", rule)
	})
}

// end ends what was started, and takes back what the kernel was told.
func (m *machine) end() {
	for _, end := range m.ends {
		end()
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// rust returns a fixture target's part about Rust: Debian's compiler and its standard library for the platform, with the
// crates fetched beforehand by the cargo in PATH, because Debian's cannot read the registry's index.
func (m *machine) rust(t *fixture.Target, triple, linker string) error {
	vendor, home := filepath.Join(m.work, "_vendor"), filepath.Join(m.work, "_cargo")
	err := m.once("crates", func() error {
		if err := m.packages("rustc", "cargo"); err != nil {
			return err
		}
		for _, workspace := range []string{"sdk-rust", filepath.Join("internal", "fixture", "rust-abort")} {
			if err := m.in(filepath.Join(fixture.Root(), workspace), nil, "cargo", "vendor", "--quiet", "--locked", "--versioned-dirs", "--no-delete", vendor); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(home, 0o777); err != nil {
			return err
		}
		config := fmt.Sprintf("[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = %q\n", vendor)
		return os.WriteFile(filepath.Join(home, "config.toml"), []byte(config), 0o666)
	})
	if err != nil {
		return err
	}
	t.RustTriple, t.Cargo, t.CargoDir = triple, "/usr/bin/cargo", filepath.Join(m.work, "_rust")
	t.CargoEnv = []string{"CARGO_HOME=" + home, "CARGO_NET_OFFLINE=true", "RUSTC=/usr/bin/rustc", "RUSTFLAGS=",
		"CARGO_TARGET_" + strings.ToUpper(strings.ReplaceAll(triple, "-", "_")) + "_LINKER=" + linker}
	switch triple {
	case "x86_64-pc-windows-gnu":
		return m.packages("libstd-rust-dev-windows")
	case "aarch64-unknown-linux-gnu":
		lib, err := m.rustLibrary("arm64", triple)
		t.CargoEnv = append(t.CargoEnv, "RUSTFLAGS=-L "+lib)
		return err
	}
	return errors.ErrUnsupported
}

// rustLibrary unpacks Rust's standard library from the package that a machine of another architecture would have, with
// lists of packages of its own, so that the system's stay as they are.
func (m *machine) rustLibrary(arch, triple string) (string, error) {
	folder := filepath.Join(m.work, "_rustlib-"+arch)
	lib := filepath.Join(folder, "usr", "lib", "rustlib", triple, "lib")
	return lib, m.once("Rust for "+arch, func() error {
		if exists(lib) {
			return nil
		}
		for _, dir := range []string{"lists/partial", "cache"} {
			if err := os.MkdirAll(filepath.Join(folder, dir), 0o777); err != nil {
				return err
			}
		}
		options := []string{"-qq", "-o", "Dir::State::lists=" + filepath.Join(folder, "lists"), "-o", "Dir::Cache=" + filepath.Join(folder, "cache"),
			"-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=" + arch}
		if err := m.run("apt-get", append(options, "update")...); err != nil {
			return err
		}
		if err := m.in(folder, nil, "apt-get", append(options, "download", "libstd-rust-dev:"+arch)...); err != nil {
			return err
		}
		found, err := filepath.Glob(filepath.Join(folder, "*.deb"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("apt-get download: found %d packages, expected one", len(found))
		}
		return m.run("dpkg", "-x", found[0], folder)
	})
}

// zig installs Zig's compiler from its PyPI package, and returns its command.
func (m *machine) zig() (string, error) {
	venv := filepath.Join(m.work, "_zig")
	python := filepath.Join(venv, "bin", "python")
	return python + " -m ziglang", m.once("zig", func() error {
		if exists(filepath.Join(venv, "done")) {
			return nil
		}
		if err := m.packages("python3-venv"); err != nil {
			return err
		}
		if err := m.run("/usr/bin/python3", "-m", "venv", "--clear", venv); err != nil {
			return err
		}
		if err := m.run(python, "-m", "pip", "install", "--quiet", "ziglang=="+zigVersion); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(venv, "done"), nil, 0o666)
	})
}

const zigVersion = "0.17.0"
