// Package panics says what a panic was about.
package panics

import "fmt"

// Text is what a panic's value says, whatever it is: also where its own methods panic, with themselves, too, which package fmt passes on.
func Text(value any) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("a %T, which cannot say what it is", value)
		}
	}()
	return fmt.Sprint(value)
}
