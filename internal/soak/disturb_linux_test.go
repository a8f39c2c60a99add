package soak

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A disturbance is something that happens to a system while it is called. of are the plug-ins that it can happen to.
type disturbance struct {
	name string
	of   func(p *plugin) bool
	do   func(r *run, p *plugin) error
}

var disturbances = []disturbance{
	{"another version of a file", func(p *plugin) bool { return p.file != "" }, (*run).replaceFile},
	{"half a file in a file's place", func(p *plugin) bool { return p.file != "" && !p.program }, (*run).halfFile},
	{"a version published, and the lock updated", func(p *plugin) bool { return p.registry != "" }, (*run).updated},
	{"other settings", func(p *plugin) bool { return !p.plain }, (*run).otherSettings},
	{"a config.yaml with a mistake", func(p *plugin) bool { return p.file != "" }, (*run).badConfig},
	{"disabled, and enabled again", func(p *plugin) bool { return true }, (*run).toggled},
	{"a crash in a call", func(p *plugin) bool { return p.crash != "" }, func(r *run, p *plugin) error { return r.harmed(p, crashWord(p), p.crash) }},
	{"a failure or a panic in a call", func(p *plugin) bool { return p.panics != "" && p.role == "" }, func(r *run, p *plugin) error { return r.harmed(p, panicWord(p), p.panics) }},
	{"a call that does not end", func(p *plugin) bool { return p.loop != "" }, func(r *run, p *plugin) error { return r.harmed(p, "loop", p.loop) }},
	{"a worker killed", func(p *plugin) bool { return p.worker }, (*run).killWorker},
	{"a program killed", func(p *plugin) bool { return p.program }, (*run).killProgram},
	{"a server killed, and another version of it started", func(p *plugin) bool { return p.role == "socket" || p.role == "server" }, (*run).killRole},
	{"a node killed, and another version of it started", func(p *plugin) bool { return p.role == "node" }, (*run).killNode},
	{"a node that leaves, and another version of it started", func(p *plugin) bool { return p.role == "node" }, (*run).leaveNode},
	{"the message server killed, and started again", func(p *plugin) bool { return p.role == "node" }, (*run).killBroker},
}

func crashWord(p *plugin) string {
	if p.crash == Panicked && strings.Contains(p.form, "Go") {
		return "panic" // what exits there is no crash, but an end
	}
	return "crash"
}

func panicWord(p *plugin) string {
	if p.panics == Failed {
		return "fail"
	}
	return "panic"
}

// disturb has one thing happen, and returns when all is as the model says.
func (r *run) disturb() error {
	var d disturbance
	var of []*plugin
	for len(of) == 0 {
		d = disturbances[r.rand.IntN(len(disturbances))]
		of = of[:0]
		for _, p := range r.all {
			if d.of(p) {
				of = append(of, p)
			}
		}
	}
	p := of[r.rand.IntN(len(of))]
	r.note("%s: %s", d.name, p.Name)
	begun := time.Now()
	if err := d.do(r, p); err != nil {
		if r.ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%s, of %s: %w", d.name, p.Name, err)
	}
	took := time.Since(begun)
	r.note("%s: %s: well after %.3f s", d.name, p.Name, took.Seconds())
	r.done[d.name]++
	r.worst[d.name] = max(r.worst[d.name], took)
	return nil
}

// becomes has a plug-in change from what it is to e, by what do does; kinds are errors of calls that there may be until that has come about.
func (r *run) becomes(p *plugin, e *Expectation, do func() error, kinds ...Kind) error {
	p.Become(p.Now().And(e.Versions, e.Numbers, kinds...))
	if err := do(); err != nil {
		return err
	}
	if err := r.settled(p, e); err != nil {
		return err
	}
	p.Become(e)
	return nil
}

// is what it is when nothing goes on.
func (p *plugin) is() *Expectation {
	return &Expectation{Versions: []string{version(p.version)}, Numbers: []uint32{p.number}}
}

func (p *plugin) next() {
	p.version++
	if p.cycle > 0 {
		p.version %= p.cycle
	}
}

func (r *run) replaceFile(p *plugin) error {
	p.next()
	if p.Name == "soak_native" {
		r.opened++
	}
	return r.becomes(p, p.is(), func() error { return put(r.path(p.file), p.bytesOf(p.version)) })
}

// halfFile puts a file there that is none, sees that the version stays that runs, and puts the whole one back, which is another version by then.
func (r *run) halfFile(p *plugin) error {
	data := p.bytesOf(p.version)
	half := data[:r.rand.IntN(min(len(data), 600))/2]
	if strings.HasSuffix(p.file, ".py") {
		half = data[:r.rand.IntN(len("# ferrule: name=soak_python "))] // half of a script may be one
	}
	if err := put(r.path(p.file), half); err != nil {
		return err
	}
	if err := r.until(func() string {
		if is, _ := r.sys.Plugin(p.Name); is.Err == nil {
			return fmt.Sprintf("found %s without an error, expected what is wrong with its file", p.Name)
		}
		return ""
	}); err != nil {
		return err
	}
	if err := r.settled(p, p.is()); err != nil {
		return err
	}
	if err := r.replaceFile(p); err != nil {
		return err
	}
	return r.until(func() string {
		if is, _ := r.sys.Plugin(p.Name); is.Err != nil {
			return fmt.Sprintf("found %s with %v, expected no error", p.Name, is.Err)
		}
		return ""
	})
}

// until waits until nothing is wrong.
func (r *run) until(wrong func() string) error {
	said := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if said = wrong(); said == "" {
			return nil
		}
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
	}
	return fmt.Errorf("after %v: %s", patience, said)
}

func (r *run) updated(p *plugin) error {
	p.next()
	return r.becomes(p, p.is(), func() error {
		if err := p.publish(r.ctx, r.to, r.key, r.folder, p.version); err != nil {
			return err
		}
		return r.update(r.ctx)
	})
}

func (r *run) otherSettings(p *plugin) error {
	p.number = r.rand.Uint32N(1 << 31)
	return r.becomes(p, p.is(), r.configure)
}

// badConfig has a mistake in config.yaml, which is refused as a whole: also what is right in it does not come about.
func (r *run) badConfig(p *plugin) error {
	text := strings.Replace(configOf(r.all, r.address, r.key.Public().String()), "enabled: true", "enabled: false", 1) + "  - {name: soak_more, grnat: [points]}\n"
	if err := put(r.path("config.yaml"), []byte(text)); err != nil {
		return err
	}
	refused := func(want bool) error {
		return r.until(func() string {
			if since, why := r.sys.ConfigRefused(); (why != nil) != want {
				return fmt.Sprintf("found config.yaml refused since %v: %v, expected %v", since, why, want)
			}
			return ""
		})
	}
	if err := refused(true); err != nil {
		return err
	}
	if err := r.settled(p, p.is()); err != nil {
		return err
	}
	if err := r.configure(); err != nil {
		return err
	}
	return refused(false)
}

func (r *run) toggled(p *plugin) error {
	p.enabled = false
	if err := r.becomes(p, &Expectation{Silent: true, Kinds: []Kind{Disabled}}, r.configure, Disabled); err != nil {
		return err
	}
	if r.rand.IntN(2) == 0 { // other settings, and another version, while it is not there
		if !p.plain {
			p.number = r.rand.Uint32N(1 << 31)
		}
		if p.file != "" {
			p.next()
			if err := put(r.path(p.file), p.bytesOf(p.version)); err != nil {
				return err
			}
		}
	}
	p.enabled = true
	if p.Name == "soak_native" {
		r.opened++
	}
	return r.becomes(p, p.is(), r.configure, Disabled)
}

// others are how calls may end beside one that harms: where they are in the same process, with that.
func (p *plugin) others(kind Kind) (kinds []Kind) {
	switch {
	case kind == Failed:
	case kind == Cancelled && !p.worker: // the interpreter ends the one call
	case p.worker || p.program:
		kinds = append(kinds, Crashed)
		if kind == Panicked {
			kinds = append(kinds, Panicked)
		}
	case kind == Panicked || kind == Killed:
	}
	return kinds
}

// harmed has a call do harm, which is to end so.
func (r *run) harmed(p *plugin, word string, kind Kind) error {
	return r.becomes(p, p.is(), func() error {
		f, err := r.sys.Func(p.Name, "harm")
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.ctx, patience)
		defer cancel()
		if word == "loop" {
			ctx, cancel = context.WithTimeout(r.ctx, 300*time.Millisecond)
			defer cancel()
		}
		_, err = f.Call(ctx, []byte(word))
		r.note("%s of %s: %v", word, p.Name, err)
		if KindOf(err) != kind {
			return fmt.Errorf("found an error of the kind %q (%w), expected %q", KindOf(err), err, kind)
		}
		r.harm[kind]++
		return nil
	}, p.others(kind)...)
}

func (r *run) killWorker(p *plugin) error {
	return r.becomes(p, p.is(), func() error {
		return r.until(func() string { // it may be on its way, after a crash
			is, _ := r.sys.Plugin(p.Name)
			if is.Worker == 0 {
				return "found no worker of " + p.Name
			}
			if err := syscall.Kill(is.Worker, syscall.SIGKILL); err != nil {
				return fmt.Sprintf("the worker %d of %s: %v", is.Worker, p.Name, err)
			}
			return ""
		})
	}, Crashed)
}

// killProgram kills each process of a program.
func (r *run) killProgram(p *plugin) error {
	return r.becomes(p, p.is(), func() error {
		return r.until(func() string { // likewise
			killed := false
			for _, pid := range descendants() {
				// What runs may be the file that was there before, or a copy of it that nobody can write to: its name is the program's.
				name, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
				if name, _, _ := strings.Cut(string(name), "\x00"); err == nil && filepath.Base(name) == filepath.Base(p.file) {
					killed = syscall.Kill(pid, syscall.SIGKILL) == nil || killed
				}
			}
			if !killed {
				return "found no process of " + p.Name
			}
			return ""
		})
	}, Crashed)
}

func (r *run) killRole(p *plugin) error {
	p.next()
	return r.becomes(p, p.is(), func() (err error) {
		r.roles[p.role].kill()
		r.pause(200 * time.Millisecond)
		r.roles[p.role], err = begin(p.role, p.address, version(p.version))
		return err
	}, Crashed, Unreachable, Another)
}

func (r *run) pause(most time.Duration) {
	select {
	case <-time.After(time.Duration(r.rand.Int64N(int64(most)))):
	case <-r.ctx.Done():
	}
}

func (r *run) killNode(p *plugin) error  { return r.anotherNode(p, false) }
func (r *run) leaveNode(p *plugin) error { return r.anotherNode(p, true) }

// anotherNode has both nodes be another version, one after the other.
func (r *run) anotherNode(p *plugin, leaves bool) error {
	kinds := []Kind{Lost}
	if leaves {
		kinds = nil
	}
	p.next()
	return r.becomes(p, p.is(), func() error {
		for i := range r.nodes {
			old := r.nodes[i]
			if !leaves {
				old.kill()
			}
			node, err := begin("node", p.address, version(p.version))
			if err != nil {
				return err
			}
			r.nodes[i] = node
			if leaves {
				if err := old.leave(); err != nil {
					return err
				}
			}
		}
		return nil
	}, kinds...)
}

func (r *run) killBroker(p *plugin) error {
	return r.becomes(p, p.is(), func() (err error) {
		r.broker.kill()
		r.pause(300 * time.Millisecond)
		r.broker, err = begin("broker", r.port)
		return err
	}, Lost, NoNode, Unreachable)
}
