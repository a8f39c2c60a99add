package engine

// Reaching is what an Engine adds whose plug-ins are at URLs, where somebody else has started them: how one of them is reached is said here, by what finds plug-ins for a host, such as
// the core system, whose config.yaml has it.
type Reaching interface {
	Engine
	// Reach returns the engine for a plug-in that is reached so. It is this engine otherwise; what Access does not say is as this engine has it. The error is an *inspect.Error of the
	// kind ErrOption. Any goroutine may call it, at any time; nobody is connected to.
	Reach(Access) (Engine, error)
}

// Looking is what an Engine adds that can say what keeps a plug-in from being opened, as far as that can be seen with nothing of it run and nobody asked: for those who list
// plug-ins.
type Looking interface {
	Engine
	// Look looks for all that is to be started. The error is an *inspect.Error, as Open's. Any goroutine may call it, at any time; f is the caller's, who closes it.
	Look(f *File) error
}

// Access is how one plug-in at a URL is reached. The slice is the caller's, who changes nothing in it any more.
type Access struct {
	Token string // what it asks for; "" is not said
	CA    []byte // certificates, as PEM: of who may have signed the server's; nil is not said
}
