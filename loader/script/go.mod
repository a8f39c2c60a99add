module github.com/ferrule-dev/ferrule/loader/script

go 1.26.0

require (
	github.com/ferrule-dev/ferrule v0.1.0
	github.com/ferrule-dev/ferrule/loader/wasm v0.1.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/ebitengine/purego v0.11.3 // indirect
	github.com/tetratelabs/wazero v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
