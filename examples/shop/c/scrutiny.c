/* scrutiny: has a person look at orders that are too large. The shop does not trust it: it runs isolated, in a sandbox. */
#include <ferrule/sdk.h>

#include "../json.h"

FERRULE_PLUGIN(FERRULE_NAME("scrutiny") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent")
                   FERRULE_DESCRIPTION("Objects to orders over a limit."));

typedef struct limit {
    long long cents;
} limit;

FERRULE_CONFIG_SCHEMA = {
    "{\"type\":\"object\",\"properties\":{\"most\":{\"type\":\"integer\",\"minimum\":1}},\"additionalProperties\":false}"};

FERRULE_START {
    limit *l = malloc(sizeof *l);
    if (!l) return FERRULE_NO_MEMORY;
    l->cents = json_number((const char *)call->in, call->in_len, "\"most\":", 100000);
    call->state = l;
    return FERRULE_OK;
}
FERRULE_CONFIGURE {
    FERRULE_STATE(call, limit)->cents = json_number((const char *)call->in, call->in_len, "\"most\":", 100000);
    return FERRULE_OK;
}
FERRULE_STOP {
    free(call->state);
    return FERRULE_OK;
}

FERRULE_HOOK_META(may_ship, FERRULE_DOC("Objects to an order that costs more than the setting most, in cents."));
FERRULE_HOOK(may_ship) {
    long long total = json_number((const char *)call->in, call->in_len, "\"totalInCents\":", 0);
    long long most = FERRULE_STATE(call, limit)->cents;
    if (total <= most) return ferrule_pass(call);
    return ferrule_replyf(call, "more than $%lld.%02lld: a person has to look at it", most / 100, most % 100);
}
