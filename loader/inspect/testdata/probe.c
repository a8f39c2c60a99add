/* The plug-in behind the committed libraries: one of everything that the contract has. It needs no C library. */
#include "ferrule.h"

FERRULE_PLUGIN(FERRULE_NAME("probe") FERRULE_VERSION("1.2.3") FERRULE_THREADS("concurrent")
               FERRULE_DESCRIPTION("One of everything.") FERRULE_KEY("x-color", "blue"));

FERRULE_IMPORT(points);
FERRULE_IMPORT(Zone);
FERRULE_IMPORT_META(points, FERRULE_DOC("The customer's points."));

FERRULE_FN(count) {
    call->out_len = call->in_len;
    return FERRULE_OK;
}
FERRULE_FN_META(count, FERRULE_DOC("Counts things.") FERRULE_IN("text/plain") FERRULE_OUT("application/json")
                           FERRULE_SCHEMA("{\"type\":\"integer\"}") FERRULE_KEY("x-cost", "low"));

FERRULE_FN(add) { return (int32_t)(FERRULE_ORDINAL(points) + FERRULE_ORDINAL(Zone)); }

FERRULE_HOOK(before_checkout) { return FERRULE_OK; }
FERRULE_HOOK_META(before_checkout, FERRULE_DOC("Runs before a cart is paid."));

FERRULE_START { return FERRULE_OK; }
FERRULE_STOP { return FERRULE_OK; }

/* Names that the contract does not know, a text about nothing, and a name that is not the contract's at all. */
FERRULE_EXPORT int32_t ferrule_future(void);
int32_t ferrule_future(void) { return 0; }
FERRULE_FN_META(nothing, FERRULE_DOC("Describes nothing."));
FERRULE_EXPORT int32_t other(void);
int32_t other(void) { return 0; }
