/* work.h: the work that every contender does. */
#ifndef WORK_H
#define WORK_H

#include <stddef.h>
#include <stdint.h>

/* Defined as `static` by who includes work.c. */
#ifndef WORK_API
#define WORK_API
#endif

/* Host function: copies len bytes from in to out and returns how many it wrote. */
typedef size_t work_host_echo(const uint8_t *in, size_t len, uint8_t *out);

/* Copies len bytes from in to out, which must not overlap. */
WORK_API void work_echo(const uint8_t *in, size_t len, uint8_t *out);

/* How many of the bytes are a, e, i, o or u, in upper or lower case. */
WORK_API uint64_t work_count_vowels(const uint8_t *in, size_t len);

/* Calls the host function once, with in and out as they came, and returns what it returned. */
WORK_API size_t work_ask(const uint8_t *in, size_t len, uint8_t *out, work_host_echo *host);

#endif
