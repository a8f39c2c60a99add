/* The discount in C, over Jansson. What it decides is in the README. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("discount") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent"));
FERRULE_IMPORT(loyalty_points);

static const json_int_t most = ((json_int_t)1 << 53) - 1; /* what JavaScript has exactly, too */

/* So much of an amount, to the nearest cent, half of one up. */
static json_int_t percent(json_int_t amount, int percent) { return (amount * percent + 50) / 100; }

/* A text may have a NUL in it. */
static int is(const json_t *value, const char *text) {
    return json_string_length(value) == strlen(text) && memcmp(json_string_value(value), text, strlen(text)) == 0;
}

static int is_number(const json_t *value) {
    return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= most;
}

/* What an item costs; -1 where it is none, or costs more than can be told. */
static json_int_t cost(const json_t *item) {
    const json_t *cents = json_object_get(item, "cents"), *quantity = json_object_get(item, "quantity");
    if (!json_is_string(json_object_get(item, "name")) || !json_is_string(json_object_get(item, "category")) || !is_number(cents) || !is_number(quantity))
        return -1;
    if (json_integer_value(quantity) && json_integer_value(cents) > most / json_integer_value(quantity)) return -1;
    return json_integer_value(cents) * json_integer_value(quantity);
}

/* Asks the host how many points a customer has; a guest has none. */
static int32_t points_of(ferrule_call *call, const json_t *customer, json_int_t *points) {
    ferrule_buffer answer = FERRULE_BUFFER_INIT;
    int32_t status = FERRULE_OK;
    *points = 0;
    if (json_string_length(customer) == 0) return FERRULE_OK;
    status = ferrule_import(call, FERRULE_ORDINAL(loyalty_points), json_string_value(customer), json_string_length(customer), &answer);
    if (status) ferrule_fail(call, status, "%s", ferrule_buffer_text(&answer));
    else *points = strtoll(ferrule_buffer_text(&answer), NULL, 10);
    ferrule_buffer_free(&answer);
    return status;
}

static int32_t decide(ferrule_call *call, const json_t *cart) {
    const json_t *customer = json_object_get(cart, "customer"), *items = json_object_get(cart, "items"), *item;
    const json_t *coupon = json_object_get(cart, "coupon");
    json_t *best = NULL, *result;
    json_int_t remains = 0, books = 0, most_off = 0, volume, off, points;
    int32_t status;
    size_t i, len;
    uint8_t *out;

    if (!json_is_string(customer) || !json_is_array(items) || (coupon && !json_is_null(coupon) && !json_is_string(coupon)))
        return ferrule_fail(call, FERRULE_INVALID, "expected {\"customer\": TEXT, \"coupon\": TEXT, \"items\": […]}");
    if (json_string_length(coupon) && !is(coupon, "FIVE"))
        return ferrule_fail(call, FERRULE_INVALID, "there is no such coupon");
    json_array_foreach(items, i, item) {
        json_int_t line = cost(item);
        if (line < 0 || line > most - remains) return ferrule_fail(call, FERRULE_INVALID, "items[%zu]: found no item, or one that costs too much", i);
        remains += line;
        if (!is(json_object_get(item, "category"), "books")) continue;
        books += off = percent(line, 10);
        if (off > most_off) most_off = off, best = json_object_get(item, "name");
    }
    if ((status = points_of(call, customer, &points))) return status;

    remains -= books;
    volume = percent(remains, remains >= 50000 ? 10 : remains >= 10000 ? 5 : 0);
    remains -= volume;
    off = json_string_length(coupon) == 0 ? 0 : remains < 500 ? remains : 500;
    remains -= off;
    if (points > remains / 2) points = remains / 2;

    result = json_pack("{s:I, s:I, s:O?}", "cents", books + volume + off + points, "points", points, "best", best);
    len = result ? json_dumpb(result, NULL, 0, JSON_COMPACT) : 0;
    out = len ? ferrule_reserve(call, len) : NULL;
    if (out) call->out_len = json_dumpb(result, (char *)out, len, JSON_COMPACT);
    json_decref(result);
    return out ? FERRULE_OK : FERRULE_NO_MEMORY;
}

FERRULE_FN_META(before_checkout, FERRULE_IN("application/json") FERRULE_OUT("application/json"));
FERRULE_FN(before_checkout) {
    json_error_t error;
    json_t *cart = json_loadb((const char *)call->in, call->in_len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    int32_t status = cart ? decide(call, cart) : ferrule_fail(call, FERRULE_INVALID, "expected JSON, found at byte %d: %s", error.position, error.text);
    json_decref(cart);
    return status;
}
