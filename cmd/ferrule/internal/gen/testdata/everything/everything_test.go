package context

import "testing"

// What a test declares is in the way, too.
var Context, json2, library any

func TestTwice(t *testing.T) {
	if len(Twice(value{})) != 2 {
		t.Fatal(Context, json2, library)
	}
}
