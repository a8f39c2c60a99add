package sidecar_test

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/ferrule-dev/ferrule/internal/fixture"
	"github.com/ferrule-dev/ferrule/loader"
	"github.com/ferrule-dev/ferrule/loader/isolate/sandbox"
	"github.com/ferrule-dev/ferrule/loader/sidecar"
)

func ExampleProgram() {
	if _, err := exec.LookPath("python3"); err != nil {
		fmt.Println("2") // where nothing runs it
		return
	}
	if err := countVowels(fixture.Root() + "/examples/sidecar/vowels.py"); err != nil {
		fmt.Println(err)
	}
	// Output: 2
}

func ExampleWithSandbox() {
	p, err := loader.Open("./vowels.py", sidecar.Program(sidecar.WithSandbox(sandbox.Policy{
		Read:   []string{"/usr/share/dict"},
		Memory: 256 << 20,
		CPU:    time.Minute,
	})))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
}

func countVowels(path string) error {
	points := func(context.Context, []byte) ([]byte, error) { return []byte("7"), nil }
	p, err := loader.Open(path, sidecar.Program(sidecar.WithArgs("--quiet")), loader.WithHostFunc("loyalty_points", points))
	if err != nil {
		return err
	}
	defer p.Close()
	out, err := p.Call(context.Background(), "count_vowels", []byte("hello"))
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", out)
	return nil
}
