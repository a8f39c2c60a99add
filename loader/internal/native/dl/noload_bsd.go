//go:build freebsd || netbsd

package dl

const noLoad = 0x2000 // RTLD_NOLOAD
