/* JSON in and out, by Jansson: what a basket costs. The configuration is JSON as well.
 *
 * Jansson frees nothing by itself: each function here has one place where what it has made ends. */
#include <jansson.h>

#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("basket") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent")
                   FERRULE_DESCRIPTION("What a basket costs. The configuration is {\"percent\": 0 to 100}, the discount; 0 without one."));

enum { most_cents = 100000000, most_count = 1000000 };
static const json_int_t most_total = (json_int_t)1 << 53; /* beyond that, numbers of JavaScript's are not exact */

/* NULL where it is no JSON, with the message of the call. */
static json_t *parsed(ferrule_call *call) {
    json_error_t error;
    json_t *value = json_loadb((const char *)call->in, call->in_len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!value) ferrule_fail(call, FERRULE_INVALID, "expected JSON, found at line %d, column %d: %s", error.line, error.column, error.text);
    return value;
}

/* Is value an integer from 0 to most? */
static int number(const json_t *value, json_int_t most) {
    return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= most;
}

FERRULE_START {
    json_t *settings, *percent;
    int32_t status = FERRULE_OK;
    if (call->in_len == 0) return FERRULE_OK;
    if (!(settings = parsed(call))) return FERRULE_INVALID;
    percent = json_object_get(settings, "percent");
    if (!json_is_object(settings) || (percent && !number(percent, 100)))
        status = ferrule_fail(call, FERRULE_INVALID, "expected {\"percent\": 0 to 100}");
    else
        call->state = (void *)(intptr_t)json_integer_value(percent); /* a number of its own, or 0: nothing to free */
    json_decref(settings);
    return status;
}

/* Sets the result to a value, and ends that. The host's own room is written to, where it is large enough. */
static int32_t reply(ferrule_call *call, json_t *value) {
    size_t len = value ? json_dumpb(value, NULL, 0, JSON_COMPACT) : 0;
    uint8_t *out = len ? ferrule_reserve(call, len) : NULL;
    if (out) call->out_len = json_dumpb(value, (char *)out, len, JSON_COMPACT);
    json_decref(value);
    return out ? FERRULE_OK : FERRULE_NO_MEMORY;
}

FERRULE_FN_META(total, FERRULE_DOC("What {\"items\": [{\"name\": TEXT, \"cents\": N, \"count\": N}]} costs, as {\"cents\": N, \"most\": NAME}.")
                           FERRULE_IN("application/json") FERRULE_OUT("application/json"));
FERRULE_FN(total) {
    json_t *basket = parsed(call), *items = json_object_get(basket, "items"), *item, *most = NULL;
    json_int_t sum = 0, largest = -1;
    int32_t status = FERRULE_OK;
    size_t i;
    if (!basket) return FERRULE_INVALID;
    if (!json_is_array(items)) status = ferrule_fail(call, FERRULE_INVALID, "expected an array \"items\"");
    for (i = 0; status == FERRULE_OK && i < json_array_size(items); i++) {
        json_t *name = json_object_get(item = json_array_get(items, i), "name");
        json_t *cents = json_object_get(item, "cents"), *count = json_object_get(item, "count");
        json_int_t cost = json_integer_value(cents) * json_integer_value(count);
        if (i % 4096 == 4095 && ferrule_cancelled(call)) status = FERRULE_CANCELLED;
        else if (!json_is_string(name) || !number(cents, most_cents) || !number(count, most_count))
            status = ferrule_fail(call, FERRULE_INVALID, "expected a text \"name\", \"cents\" of 0 to %d and a \"count\" of 0 to %d in item %zu",
                                  most_cents, most_count, i);
        else if (cost > most_total - sum) status = ferrule_fail(call, FERRULE_INVALID, "the basket costs more than can be told");
        else {
            sum += cost;
            if (cost > largest) largest = cost, most = name;
        }
    }
    if (status == FERRULE_OK) {
        sum -= sum / 100 * (json_int_t)(intptr_t)call->state + sum % 100 * (json_int_t)(intptr_t)call->state / 100;
        status = reply(call, json_pack("{s:I, s:O?}", "cents", sum, "most", most));
    }
    json_decref(basket);
    return status;
}
