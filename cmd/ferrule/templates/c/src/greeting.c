#include "greeting.h"

#include <string.h>

/* Writes what there is room for of a text that begins at a place; returns where it ends. */
static size_t put(char *out, size_t size, size_t at, const char *text, size_t len) {
    if (at < size) memcpy(out + at, text, len < size - at ? len : size - at);
    return at + len;
}

size_t greeting(char *out, size_t size, const char *name, size_t len) {
    size_t at = put(out, size, 0, "Hello, ", 7);
    at = len ? put(out, size, at, name, len) : put(out, size, at, "world", 5);
    return put(out, size, at, "!", 1);
}
