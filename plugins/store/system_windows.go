package store

import "io/fs"

// writable says nothing on Windows: who may write to a folder in a user's profile comes from the profile's access control list, which is that of the user.
func writable(fs.FileInfo) (found, remedy string) { return "", "" }

func unknown(error) bool { return false }

func links(fs.FileInfo) uint64 { return 1 }
