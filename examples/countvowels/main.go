// Command countvowels counts the vowels of a text file with a plug-in.
//
//	countvowels PLUGIN FILE
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ferrule-dev/ferrule/loader"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: countvowels PLUGIN FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "countvowels:", err)
		os.Exit(1)
	}
}

func run(plugin, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	count, err := countVowels(plugin, text)
	if err != nil {
		return err
	}
	fmt.Printf("%s vowels in %s\n", count, file)
	return nil
}

func countVowels(plugin string, text []byte) ([]byte, error) {
	p, err := loader.Open(plugin)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Call(context.Background(), "count_vowels", text)
}
