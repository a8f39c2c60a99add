package library

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"
)

// TestHeader: the contract is one file, and this package has a copy, since a module has no files of another one.
func TestHeader(t *testing.T) {
	contract, err := os.ReadFile("../../include/ferrule.h")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this is not Ferrule's tree")
	}
	own, other := os.ReadFile("ferrule.h")
	if err != nil || other != nil {
		t.Fatal(err, other)
	}
	if !bytes.Equal(contract, own) {
		t.Error("sdk-go/library/ferrule.h is not include/ferrule.h: cp include/ferrule.h sdk-go/library/")
	}
}
