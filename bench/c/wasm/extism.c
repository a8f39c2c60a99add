/* The work as a WebAssembly module for Extism. A module reaches Extism's memory through functions that move eight bytes
 * or one, which is how its plug-in kits read the input and write the output as well. */
#define WORK_API static __attribute__((unused))
#include "../work.c"

#define EXPORT(name) __attribute__((export_name(#name)))
#define ENV(name) __attribute__((import_module("extism:host/env"), import_name(#name)))

/* Two areas that grow with the longest payload yet: the module has no other use for its memory. */
static uint8_t *in, *out;
static size_t room;

static void make_room(size_t len) {
    enum { PAGE = 1 << 16 };
    if (len <= room) return;
    room = (len + PAGE - 1) / PAGE * PAGE;
    size_t page = __builtin_wasm_memory_grow(0, room / PAGE * 2);
    if (page == (size_t)-1) __builtin_trap();
    in = (uint8_t *)(page * PAGE);
    out = in + room;
}

ENV(input_length) uint64_t input_length(void);
ENV(input_load_u64) uint64_t input_load_u64(uint64_t at);
ENV(input_load_u8) uint32_t input_load_u8(uint64_t at);
ENV(alloc) uint64_t alloc(uint64_t len);
ENV(load_u64) uint64_t load_u64(uint64_t at);
ENV(load_u8) uint32_t load_u8(uint64_t at);
ENV(store_u64) void store_u64(uint64_t at, uint64_t value);
ENV(store_u8) void store_u8(uint64_t at, uint32_t value);
ENV(output_set) void output_set(uint64_t at, uint64_t len);
ENV(length) uint64_t length(uint64_t at);

/* Takes and returns a block of Extism's memory. */
__attribute__((import_module("extism:host/user"), import_name("host_echo"))) uint64_t user_host_echo(uint64_t block);

static size_t input(void) {
    uint64_t len = input_length(), i = 0, word;
    make_room(len);
    for (; i + 8 <= len; i += 8) {
        word = input_load_u64(i);
        __builtin_memcpy(in + i, &word, 8);
    }
    for (; i < len; i++) in[i] = (uint8_t)input_load_u8(i);
    return (size_t)len;
}

static uint64_t store(const uint8_t *bytes, size_t len) {
    uint64_t at = alloc(len), word;
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        __builtin_memcpy(&word, bytes + i, 8);
        store_u64(at + i, word);
    }
    for (; i < len; i++) store_u8(at + i, bytes[i]);
    return at;
}

static size_t host_echo(const uint8_t *bytes, size_t len, uint8_t *to) {
    uint64_t at = user_host_echo(store(bytes, len)), n = length(at), i = 0, word;
    if (n > room) __builtin_trap();
    for (; i + 8 <= n; i += 8) {
        word = load_u64(at + i);
        __builtin_memcpy(to + i, &word, 8);
    }
    for (; i < n; i++) to[i] = (uint8_t)load_u8(at + i);
    return (size_t)n;
}

static int32_t reply(const uint8_t *bytes, size_t len) {
    output_set(store(bytes, len), len);
    return 0;
}

EXPORT(echo) int32_t echo(void) {
    size_t len = input();
    work_echo(in, len, out);
    return reply(out, len);
}

EXPORT(count_vowels) int32_t count_vowels(void) {
    size_t len = input();
    uint64_t n = work_count_vowels(in, len);
    return reply((const uint8_t *)&n, sizeof n);
}

EXPORT(ask) int32_t ask(void) {
    size_t len = input();
    return reply(out, work_ask(in, len, out, host_echo));
}
