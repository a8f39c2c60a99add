//go:build !(amd64 || arm64)

// The linker accepts a Go function without a body only in a package that has an assembly file.
