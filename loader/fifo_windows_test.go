package loader_test

import "errors"

func makeFifo(string) error { return errors.ErrUnsupported } // tests that make one are not for Windows
