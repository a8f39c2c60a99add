/* sum: adds up the numbers of a JSON document. It works, and has two faults that its author has not met: each nested
 * array costs it stack, without a limit, and an exponent costs it a multiplication for each power of ten. */
#include <ferrule/sdk.h>
#include <stdlib.h>
#include <string.h>

FERRULE_PLUGIN(FERRULE_NAME("sum") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent"));
FERRULE_FN_META(sum, FERRULE_DOC("Adds up the numbers of a JSON document.") FERRULE_IN("application/json")
                         FERRULE_OUT("text/plain"));

struct parser {
    const char *at, *end;
    double sum;
};

static void skip(struct parser *p, const char *set) {
    while (p->at < p->end && strchr(set, *p->at)) p->at++;
}

static void string(struct parser *p) {
    for (p->at++; p->at < p->end && *p->at != '"'; p->at++)
        if (*p->at == '\\') p->at++;
    p->at++;
}

static long digits(struct parser *p) {
    long n = 0;
    for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++) n = 10 * n + (*p->at - '0');
    return n;
}

static double number(struct parser *p) {
    int negative = p->at < p->end && *p->at == '-';
    p->at += negative;
    double n = (double)digits(p);
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        for (long exponent = digits(p); exponent > 0; exponent--) n *= 10;
    }
    return negative ? -n : n;
}

/* Returns 0 when this is no JSON value. */
static int value(struct parser *p) {
    skip(p, " \t\r\n");
    if (p->at >= p->end) return 0;
    if (*p->at == '"') {
        string(p);
    } else if (*p->at == '[' || *p->at == '{') {
        char close = *p->at == '[' ? ']' : '}';
        for (p->at++;; ) {
            skip(p, " \t\r\n,:");
            if (p->at >= p->end) return 0;
            if (*p->at == close) break;
            if (!value(p)) return 0;
        }
        p->at++;
    } else if (*p->at == '-' || (*p->at >= '0' && *p->at <= '9')) {
        p->sum += number(p);
    } else {
        const char *start = p->at;
        while (p->at < p->end && *p->at >= 'a' && *p->at <= 'z') p->at++; /* true, false, null */
        return p->at > start;
    }
    return 1;
}

FERRULE_FN(sum) {
    struct parser p = {(const char *)call->in, (const char *)call->in + call->in_len, 0};
    if (!value(&p)) return ferrule_fail(call, FERRULE_INVALID, "not JSON");
    return ferrule_replyf(call, "%g", p.sum);
}
