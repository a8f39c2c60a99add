/* The work as a WebAssembly module for wazero. The host copies the input into one reserved area of the module's memory
 * and the result out of the other. */
#define WORK_API static __attribute__((unused))
#include "../work.c"

#define EXPORT(name) __attribute__((export_name(#name)))

enum { ROOM = 1 << 20 };
static uint8_t in[ROOM], out[ROOM];

__attribute__((import_module("host"), import_name("echo"))) size_t host_echo(const uint8_t *in, size_t len,
                                                                             uint8_t *out);

EXPORT(in) uint8_t *in_address(void) {
    return in;
}

EXPORT(out) uint8_t *out_address(void) {
    return out;
}

/* Each returns the length of the result. */
EXPORT(echo) size_t echo(size_t len) {
    work_echo(in, len, out);
    return len;
}

EXPORT(count_vowels) size_t count_vowels(size_t len) {
    uint64_t n = work_count_vowels(in, len);
    __builtin_memcpy(out, &n, sizeof n);
    return sizeof n;
}

EXPORT(ask) size_t ask(size_t len) {
    return work_ask(in, len, out, host_echo);
}
