/* sample-plugin: 20 % for a new customer who spends $100 or more. */
#include <ferrule/sdk.h>

#include "../../shop/json.h"

FERRULE_PLUGIN(FERRULE_NAME("sample-plugin") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent") FERRULE_KEY("license", "Apache-2.0")
                   FERRULE_DESCRIPTION("A discount for new customers.") FERRULE_KEY("host.shop", ">=1.4, <2"));

FERRULE_HOOK_META(before_checkout, FERRULE_DOC("Has nothing to say to customers who are known."));
FERRULE_HOOK(before_checkout) {
    const char *in = (const char *)call->in, *known = json_find(in, call->in_len, "\"newCustomer\":");
    if (!known || *known != 't' || json_number(in, call->in_len, "\"totalInCents\":", 0) < 10000) return ferrule_pass(call);
    return ferrule_replyf(call, "{\"discountPercent\":20}");
}
