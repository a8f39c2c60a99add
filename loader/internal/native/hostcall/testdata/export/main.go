// Command export is what BenchmarkRound compares with: a function that cgo exports, of the type of host->room. It
// reads numbers from standard input, has C call the function so often, and writes how many nanoseconds that took.
package main

// #include <stddef.h>
// #include <stdint.h>
// extern int32_t room(uintptr_t call, size_t n);
// static int32_t rounds(uintptr_t call, size_t n) {
//     for (size_t i = 0; i < n; i++) {
//         if (room(call, 0) != 0) return 1;
//     }
//     return 0;
// }
import "C"

import (
	"fmt"
	"os"
	"time"
)

//export room
func room(C.uintptr_t, C.size_t) C.int32_t { return 0 }

func main() {
	for n := 0; ; {
		if _, err := fmt.Scan(&n); err != nil {
			return
		}
		begin := time.Now()
		if C.rounds(1, C.size_t(n)) != 0 {
			os.Exit(1)
		}
		fmt.Println(time.Since(begin).Nanoseconds())
	}
}
