/* A discount for customers with 1,000 loyalty points or more, for which the shop is asked. */
#ifndef SHOP_POINTS_H
#define SHOP_POINTS_H
#include <ferrule/sdk.h>

#include "json.h"

/* ordinal is that of the import loyalty_points. Customers with fewer points are passed on. */
static inline int32_t discount_for_points(ferrule_call *call, uint32_t ordinal, int percent) {
    size_t size;
    const char *email = json_text((const char *)call->in, call->in_len, "\"providedEmail\":", &size);
    ferrule_buffer answer = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_import(call, ordinal, email, size, &answer);
    if (status) {
        status = ferrule_fail(call, status, "loyalty_points: %s", ferrule_buffer_text(&answer));
    } else if (strtol(ferrule_buffer_text(&answer), NULL, 10) < 1000) {
        status = ferrule_pass(call);
    } else {
        status = ferrule_replyf(call, "{\"discountPercent\":%d}", percent);
    }
    ferrule_buffer_free(&answer);
    return status;
}
#endif
