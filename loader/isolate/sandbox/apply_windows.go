package sandbox

// apply takes the bounds of a policy upon this process. Here there is nothing to take: memory, processor time and the
// number of processes are bounded by the job object that the host has put the worker in, and what is left cannot be
// refused to a process that is running. So every policy needs BestEffort.
func apply(config []byte, _ []string) ([]string, error) {
	p, err := decode(config)
	if err != nil {
		return nil, err
	}
	var r report
	r.lacks("files", "Windows has nothing by which a process gives up files")
	r.lacks("network", "Windows has nothing by which a process gives up the network")
	if p.Time > 0 {
		r.lacks("wall time", "Windows has no timer that a plug-in could not stop; WithCallTimeout bounds each call")
	}
	if p.Files > 0 {
		r.lacks("rlimit files", "Windows has no limit of handles")
	}
	return r.layers, r.err(&p)
}
