/* The same file is compiled into the Ferrule plug-in, the cgo package, the library for purego and the WebAssembly
 * modules, with -O2 each time. It needs no C library, because the WebAssembly modules have none. */
#include "work.h"

static const uint8_t vowel[256] = {['a'] = 1, ['e'] = 1, ['i'] = 1, ['o'] = 1, ['u'] = 1,
                                   ['A'] = 1, ['E'] = 1, ['I'] = 1, ['O'] = 1, ['U'] = 1};

WORK_API void work_echo(const uint8_t *in, size_t len, uint8_t *out) {
    __builtin_memcpy(out, in, len);
}

WORK_API uint64_t work_count_vowels(const uint8_t *in, size_t len) {
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++) n += vowel[in[i]];
    return n;
}

WORK_API size_t work_ask(const uint8_t *in, size_t len, uint8_t *out, work_host_echo *host) {
    return host(in, len, out);
}
