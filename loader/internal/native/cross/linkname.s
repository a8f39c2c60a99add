// The linker accepts a Go function without a body only in a package that has an assembly file: see direct.go.
