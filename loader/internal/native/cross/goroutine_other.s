//go:build !(amd64 || arm64 || 386 || arm || riscv64 || loong64 || ppc64le || s390x)

// The linker accepts a Go function without a body only in a package that has an assembly file.
