/* What the plug-in does, without a word about its host: a test calls it as it is. */
#ifndef GREETING_H
#define GREETING_H

#include <stddef.h>

/* Writes a greeting of whoever is named, without a NUL and no more than size bytes of it. Returns how many bytes it has.
 * Nobody's name is "world". */
size_t greeting(char *out, size_t size, const char *name, size_t len);

#endif
