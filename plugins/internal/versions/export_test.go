package versions

// WithWork has searches look at no more than this, until the function that it returns is called.
func WithWork(most int) (restore func()) {
	was := mostWork
	mostWork = most
	return func() { mostWork = was }
}
