// Package reach says in words why a sidecar at an address was not reached.
package reach

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
)

// Failed returns what was found where connecting failed, and what to do. who is what was to be reached, such as "sidecar". Where the reason is nothing
// that is known, both say that there is no answer.
func Failed(who string, err error) (found, remedy string) {
	var dns *net.DNSError
	var address *net.AddrError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "a " + who + " that this user may not connect to (" + Cause(err) + ")", "Run both as the same user, or have the rights of its socket and of the folders above changed"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no host of the name " + dns.Name, "Check the address"
	case errors.As(err, &dns):
		return "a name that could not be looked up: " + dns.Name, "See why the system finds no addresses, or give the address itself"
	case errors.As(err, &address), errors.Is(err, syscall.EINVAL): // EINVAL is how package net refuses the path of a socket that is too long
		return "an address that nothing can have", "Check the address: the path of a Unix socket has some 100 bytes at most"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "no descriptor for a connection", "Raise the limit of open files (ulimit -n), or have fewer open"
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENOSPC):
		return "no room for a connection in the system (" + Cause(err) + ")", "See what uses up its memory, or its ports"
	case errors.Is(err, syscall.ENOTSOCK), errors.Is(err, syscall.EPROTOTYPE):
		return "something at the address that is no socket to connect to (" + Cause(err) + ")", "Check the address"
	case Timeout(err):
		return "no " + who + " that answers in time", "Start it, and check the address, and what may lie between, such as a firewall"
	}
	return "no " + who + " that answers (" + Cause(err) + ")", "Start it, and check the address"
}

// Cause is what the system, or whoever found it, says of an error, without the addresses that are around it.
func Cause(err error) string {
	var inner *url.Error
	if errors.As(err, &inner) {
		err = inner.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return strings.TrimSuffix(err.Error(), ".")
}

// Connecting reports whether an error is one of connecting, and not of what was said then.
func Connecting(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &op) && op.Op == "dial" || errors.As(err, &dns)
}

// Timeout reports whether an error is that of a time which had passed.
func Timeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT)
}
