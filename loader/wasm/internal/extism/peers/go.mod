module github.com/ferrule-dev/ferrule/loader/wasm/internal/extism/peers

go 1.26.0

require (
	github.com/extism/go-sdk v1.7.1
	github.com/ferrule-dev/ferrule v0.1.0
	github.com/ferrule-dev/ferrule/loader/wasm v0.1.0
	github.com/stretchr/testify v1.12.1
	github.com/tetratelabs/wazero v1.12.0
)
