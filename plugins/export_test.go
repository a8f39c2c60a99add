package plugins

import "github.com/ferrule-dev/ferrule/loader"

// Targets returns the functions that a point calls, in its order.
func (n *NotifyPoint[T]) Targets() (all []*loader.Func) {
	for _, a := range n.p.line.Load().hooks {
		all = append(all, a.breaker.target.Load())
	}
	return all
}

// Groups returns how many groups of workers a system knows.
func (s *System) Groups() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.groups)
}

// Declared returns what Plugin.Declared is of a plug-in that was permitted a file and a port, in a sandbox of best-effort that has these layers.
func Declared(files, ports int, layers ...string) bool {
	sp := &spec{permits: []string{"some"}, sandboxed: true}
	sp.policy.BestEffort, sp.policy.Read, sp.policy.Connect = true, make([]string, files), make([]uint16, ports)
	return sp.declared(layers)
}
