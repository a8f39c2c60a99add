/* The work as a Ferrule plug-in. It has no state, so that calls may run at the same time, unless who compiles it says otherwise. */
#ifndef WORK_THREADS
#define WORK_THREADS "concurrent"
#endif
#define WORK_API static __attribute__((unused))
#include "../work.c"

#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("work") FERRULE_VERSION("1.0.0") FERRULE_THREADS(WORK_THREADS));
FERRULE_IMPORT(host_echo);

FERRULE_FN(echo) {
    uint8_t *room = ferrule_reserve(call, call->in_len);
    if (!room) return FERRULE_NO_MEMORY;
    work_echo(call->in, call->in_len, room);
    call->out_len = call->in_len;
    return FERRULE_OK;
}

FERRULE_FN(count_vowels) {
    uint64_t n = work_count_vowels(call->in, call->in_len);
    return ferrule_reply(call, &n, sizeof n);
}

/* The host function's result goes straight to this function's own, as in the other contenders. */
FERRULE_FN(ask) {
    ferrule_request request = {.size = sizeof request,
                               .in = call->in,
                               .in_len = call->in_len,
                               .out = call->out,
                               .out_cap = call->out_cap,
                               .ordinal = FERRULE_ORDINAL(host_echo)};
    int32_t status = call->host->call(call, &request);
    if (status == FERRULE_MORE) {
        request.out = ferrule_reserve(call, request.out_len);
        if (!request.out) return FERRULE_NO_MEMORY;
        request.out_cap = request.out_len;
        status = call->host->call(call, &request);
    }
    call->out_len = request.out_len;
    return status;
}
