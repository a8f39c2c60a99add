module github.com/ferrule-dev/ferrule/internal/release

go 1.26.0

require (
	aead.dev/minisign v0.3.0
	github.com/ferrule-dev/ferrule v0.1.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/mod v0.41.0
)

require (
	github.com/ebitengine/purego v0.11.3 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
