package libfile

import (
	"errors"
	"io/fs"
	"syscall"
)

// NoDescriptors is what to do about a process that has no file descriptor left.
const NoDescriptors = "Close files and connections that are not needed, or raise the limit (ulimit -n; Policy.Files in a sandbox)"

// Remedy returns what to do about an error of Identify or Open, or of reading.
func Remedy(err error) string {
	if remedy := known(err); remedy != "" {
		return remedy
	}
	if errors.Is(err, fs.ErrPermission) {
		return "Check its permissions, and those of the folders on the way"
	}
	return "Check the path"
}

// Kind names what there is in place of a regular file.
func Kind(kind fs.FileMode) string {
	switch {
	case kind.IsDir():
		return "a directory"
	case kind&fs.ModeNamedPipe != 0:
		return "a fifo"
	case kind&fs.ModeDevice != 0:
		return "a device"
	case kind&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a special file"
}

// CopyRemedy returns what to do about an error of Share, Hold or a copy's SHA256.
func CopyRemedy(err error) string {
	if remedy := known(err); remedy != "" {
		return remedy
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return copyForbidden
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return copyNoSpace
	case errors.Is(err, syscall.EFBIG):
		return "Raise the limit of the length of files (ulimit -f)"
	}
	return copyElsewhere
}

// known returns what to do about an error, whatever was done; "" when that depends on it.
func known(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return NoDescriptors
	case errors.Is(err, syscall.ENFILE):
		return "Close files that are not needed, or raise the system's limit (sysctl fs.file-max)"
	case errors.Is(err, syscall.ENOMEM):
		return "Free memory, or raise the limit that the process has"
	case errors.Is(err, syscall.EIO):
		return "Look after the disk, or copy the file from elsewhere"
	}
	return ""
}
