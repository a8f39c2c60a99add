module github.com/ferrule-dev/ferrule/plugins/oci

go 1.26.0

require (
	github.com/Masterminds/semver/v3 v3.5.0
	github.com/ferrule-dev/ferrule v0.1.0
	github.com/ferrule-dev/ferrule/plugins v0.1.0
	github.com/opencontainers/go-digest v1.0.0
	github.com/opencontainers/image-spec v1.1.1
	github.com/stretchr/testify v1.12.1
	oras.land/oras-go/v2 v2.7.0
)

require (
	aead.dev/minisign v0.3.0 // indirect
	github.com/ebitengine/purego v0.11.3 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
