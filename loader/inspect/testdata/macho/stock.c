/* The C plug-in behind stock-c.dylib: what authors use of ferrule/sdk.h. dylib_test.go builds it for other systems as
 * well, and compares what is read from the files. */
#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("stock") FERRULE_VERSION("2.0.1") FERRULE_THREADS("serial")
               FERRULE_DESCRIPTION("Counts what is in stock: Grüße.") FERRULE_KEY("x-shelf", "7"));

FERRULE_IMPORT(price);
FERRULE_IMPORT_META(price, FERRULE_DOC("What one costs.") FERRULE_IN("text/plain") FERRULE_OUT("text/plain"));
FERRULE_IMPORT(Audit);

typedef struct stock {
    long n;
} stock;

FERRULE_START {
    call->state = calloc(1, sizeof(stock));
    return call->state ? FERRULE_OK : FERRULE_NO_MEMORY;
}
FERRULE_STOP {
    free(call->state);
    return FERRULE_OK;
}

FERRULE_FN(add) {
    char text[32];
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status) return status;
    ferrule_log_debug(call, "adding %s", text);
    return ferrule_replyf(call, "%ld", FERRULE_STATE(call, stock)->n += strtol(text, NULL, 10));
}
FERRULE_FN_META(add, FERRULE_DOC("Adds to the stock.\nNegative numbers take away.") FERRULE_IN("text/plain")
                         FERRULE_OUT("text/plain") FERRULE_SCHEMA("{\"type\":\"integer\"}") FERRULE_KEY("x-cost", "low"));

FERRULE_FN(worth) {
    ferrule_buffer cost = FERRULE_BUFFER_INIT, audited = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_import(call, FERRULE_ORDINAL(price), call->in, call->in_len, &cost);
    if (!status) status = ferrule_import(call, FERRULE_ORDINAL(Audit), cost.data, cost.len, &audited);
    int32_t sent = ferrule_reply_buffer(call, status ? &cost : &audited);
    ferrule_buffer_free(status ? &audited : &cost);
    return status ? status : sent;
}

FERRULE_HOOK(before_checkout) { return ferrule_reply_text(call, "in stock"); }
FERRULE_HOOK_META(before_checkout, FERRULE_DOC("Says what is left.") FERRULE_OUT("text/plain"));
