/* Reads a member of a JSON object, as this shop's host writes one: without blanks, no member's name twice. Inside of a
 * text a quote is escaped, so what is found is never a part of one. */
#ifndef SHOP_JSON_H
#define SHOP_JSON_H
#include <stddef.h>
#include <string.h>

/* What stands behind "name": from there to the end of the object; NULL where there is no such member. name is what is
 * looked for, with its quotes and the colon. */
static inline const char *json_find(const char *in, size_t len, const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i + n <= len; i++)
        if (memcmp(in + i, name, n) == 0) return in + i + n;
    return NULL;
}

/* The number behind a name, or otherwise where there is none. It has up to 15 digits. */
static inline long long json_number(const char *in, size_t len, const char *name, long long otherwise) {
    const char *at = json_find(in, len, name), *begin = at;
    long long number = 0;
    if (!at) return otherwise;
    for (; at < in + len && at < begin + 15 && *at >= '0' && *at <= '9'; at++) number = 10 * number + (*at - '0');
    return at == begin ? otherwise : number;
}

/* The text behind a name as it stands there, with its quotes; its length is *size, 0 where there is none. */
static inline const char *json_text(const char *in, size_t len, const char *name, size_t *size) {
    const char *at = json_find(in, len, name), *begin = at, *end = in + len;
    *size = 0;
    if (!at || at == end || *at != '"') return "";
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\') at++;
    if (at >= end) return "";
    *size = (size_t)(at + 1 - begin);
    return begin;
}
#endif
