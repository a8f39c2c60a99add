package keeper

const (
	machine    = 62 // EM_X86_64
	maxProgram = 2 << 10
)
