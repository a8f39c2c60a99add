//go:build cgo

package sandbox

// haveCgo says whether C code, such as libpsx, is part of this build.
const haveCgo = true
