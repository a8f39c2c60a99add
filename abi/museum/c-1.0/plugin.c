/* The museum's plug-in in C: as much of the contract as one small plug-in can use. See ../README.md. */
#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("museum-c") FERRULE_VERSION("1.0.0") FERRULE_THREADS("serial")
                   FERRULE_DESCRIPTION("As much of the contract as one small plug-in can use")
                       FERRULE_KEY("homepage", "https://example.org/museum") FERRULE_KEY("license", "MIT")
                           FERRULE_KEY("authors", "Gr\303\274\303\237e") FERRULE_KEY("x-unknown.key_1", "a=b; kept"));

FERRULE_IMPORT(upper);
FERRULE_IMPORT_META(upper, FERRULE_DOC("The text in capital letters."));
FERRULE_IMPORT(refuse);

/* ---- An instance's state: a counter that starts at the number in the configuration ------------------------------ */

static int32_t number_of(ferrule_call *call, long *number) {
    char text[32], *end;
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status != FERRULE_OK) return status;
    *number = strtol(text, &end, 10);
    if (end == text || *end) return ferrule_fail(call, FERRULE_INVALID, "found \"%s\", expected a number\n", text);
    return FERRULE_OK;
}

FERRULE_START {
    long first, *counter;
    int32_t status = number_of(call, &first);
    if (status != FERRULE_OK) return status;
    counter = (long *)malloc(sizeof *counter);
    if (!counter) return FERRULE_NO_MEMORY;
    *counter = first;
    call->state = counter;
    ferrule_log_info(call, "started at %ld", first);
    return FERRULE_OK;
}

FERRULE_STOP {
    long *counter = FERRULE_STATE(call, long);
    ferrule_log_info(call, "stopped at %ld", *counter);
    free(counter);
    return FERRULE_OK;
}

FERRULE_FN_META(next, FERRULE_DOC("Adds the number to the instance's counter, and says the sum.")
                          FERRULE_IN("text/plain") FERRULE_OUT("text/plain") FERRULE_SCHEMA("{\"type\": \"integer\"}"));
FERRULE_FN(next) {
    long *counter = FERRULE_STATE(call, long), n = 0;
    int32_t status = number_of(call, &n);
    if (status != FERRULE_OK) return status;
    *counter += n;
    return ferrule_replyf(call, "%ld", *counter);
}

/* ---- Results --------------------------------------------------------------------------------------------------- */

FERRULE_FN_META(echo, FERRULE_DOC("Gives back what it gets.") FERRULE_IN("application/octet-stream")
                          FERRULE_OUT("application/octet-stream"));
FERRULE_FN(echo) { return ferrule_reply(call, call->in, call->in_len); }

FERRULE_FN(nothing) { return FERRULE_OK; }

/* How many results of `own` the host has not released. */
static int32_t outstanding;

/* What the plug-in leaves in out_cap, which is its own word once release is set (R6, R9). */
#define MINE 4711u

static void release_own(ferrule_call *call) {
    if (call->out_cap != MINE) abort();
    if (call->out_len && call->out[call->out_len - 1] != '!') abort();
    outstanding--;
    free(call->out);
}

/* The input with an exclamation mark in memory of the plug-in's; NULL for no input. */
static int32_t own(ferrule_call *call, int32_t status) {
    uint8_t *bytes = NULL;
    if (call->in_len) {
        bytes = (uint8_t *)malloc(call->in_len + 1);
        if (!bytes) return FERRULE_NO_MEMORY;
        memcpy(bytes, call->in, call->in_len);
        bytes[call->in_len] = '!';
    }
    call->out = bytes;
    call->out_len = call->in_len ? call->in_len + 1 : 0;
    call->out_cap = MINE;
    call->release = release_own;
    outstanding++;
    return status;
}

FERRULE_FN_META(own, FERRULE_DOC("Gives back what it gets, in memory of its own, which the host releases."));
FERRULE_FN(own) { return own(call, FERRULE_OK); }

FERRULE_FN(fail_own) { return own(call, FERRULE_UNSUPPORTED); }

FERRULE_FN(outstanding) { return ferrule_replyf(call, "%d", (int)outstanding); }

/* ---- Statuses and messages ------------------------------------------------------------------------------------- */

FERRULE_FN_META(status, FERRULE_DOC("Returns the status that its input says."));
FERRULE_FN(status) {
    long n = 0;
    int32_t status = number_of(call, &n);
    if (status != FERRULE_OK) return status;
    status = ferrule_replyf(call, "status %ld", n);
    return status != FERRULE_OK ? status : (int32_t)n;
}

/* A status of the plug-in's own. */
#define SOLD_OUT (FERRULE_STATUS_OWN + 1)

FERRULE_FN(reserve) {
    long n = 0;
    int32_t status = number_of(call, &n);
    if (status != FERRULE_OK) return status;
    if (n > 9) return ferrule_fail(call, SOLD_OUT, "only %d pieces are left", 9);
    return ferrule_replyf(call, "%ld reserved", n);
}

/* The instance that says so is replaced (R16). */
FERRULE_FN(panic) {
    *FERRULE_STATE(call, long) = -1;
    return ferrule_fail(call, FERRULE_PANIC, "the counter is lost");
}

/* ---- Cancellation ---------------------------------------------------------------------------------------------- */

FERRULE_FN(wanted) {
    if (ferrule_cancelled(call)) return FERRULE_CANCELLED;
    return ferrule_reply_text(call, "wanted");
}

FERRULE_FN_META(wait, FERRULE_DOC("Works until it is cancelled, and says when it begins."));
FERRULE_FN(wait) {
    ferrule_log_info(call, "working");
    while (!ferrule_cancelled(call)) continue;
    return ferrule_fail(call, FERRULE_CANCELLED, "stopped half-way");
}

/* ---- The host's services --------------------------------------------------------------------------------------- */

FERRULE_FN(upper) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_import(call, FERRULE_ORDINAL(upper), call->in, call->in_len, &result);
    if (status == FERRULE_OK) return ferrule_reply_buffer(call, &result);
    ferrule_buffer_free(&result);
    return status;
}

/* The status and the message of the host's are this function's own. */
FERRULE_FN(refuse) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_import(call, FERRULE_ORDINAL(refuse), call->in, call->in_len, &result), sent;
    sent = ferrule_reply_buffer(call, &result);
    return sent != FERRULE_OK ? sent : status;
}

static ferrule_request ask(ferrule_call *call, uint32_t ordinal, uint8_t *room, size_t cap) {
    ferrule_request request;
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.in = call->in;
    request.in_len = call->in_len;
    request.out = room;
    request.out_cap = cap;
    request.ordinal = ordinal;
    return request;
}

FERRULE_FN_META(fetch, FERRULE_DOC("Calls the host with little room, and fetches what did not fit."));
FERRULE_FN(fetch) {
    uint8_t room[8];
    ferrule_request kept = ask(call, FERRULE_ORDINAL(upper), room, sizeof room), second = kept, unfetched = kept;
    int32_t status = call->host->call(call, &kept), other;
    if (status == FERRULE_OK) return ferrule_reply(call, room, kept.out_len);
    /* Two more that are kept at the same time: one is fetched, one is dropped with the call. */
    other = call->host->call(call, &second);
    call->host->call(call, &unfetched);
    if (status != FERRULE_MORE || other != FERRULE_MORE || kept.kept == second.kept || kept.out_len != call->in_len)
        return ferrule_fail(call, FERRULE_FAILED, "statuses %d and %d", (int)status, (int)other);
    second.out = ferrule_reserve(call, second.out_len);
    if (!second.out) return FERRULE_NO_MEMORY;
    second.out_cap = second.out_len - 1;
    other = call->host->call(call, &second);
    if (other != FERRULE_MORE) return ferrule_fail(call, FERRULE_FAILED, "%d for too little room", (int)other);
    second.out_cap = second.out_len;
    status = call->host->call(call, &second);
    call->out_len = second.out_len;
    return status;
}

/* What the host answers to what it must refuse: the statuses, one after the other. */
FERRULE_FN(misuse) {
    uint8_t room[8];
    ferrule_request good = ask(call, FERRULE_ORDINAL(upper), room, sizeof room), request;
    ferrule_buffer answers = FERRULE_BUFFER_INIT;
    ferrule_call copy = *call;
#define ANSWER(status) ferrule_buffer_appendf(&answers, "%d ", (int)(status))
    ANSWER(call->host->call(&copy, &good));
    ANSWER(call->host->call(call, NULL));
    request = good, request.size = offsetof(ferrule_request, kept);
    ANSWER(call->host->call(call, &request));
    request = good, request.ordinal = 2;
    ANSWER(call->host->call(call, &request));
    request = good, request.ordinal = FERRULE_UNBOUND;
    ANSWER(call->host->call(call, &request));
    request = good, request.kept = 99;
    ANSWER(call->host->call(call, &request));
    request = good, request.out = NULL;
    ANSWER(call->host->call(call, &request));
    ANSWER(call->host->log(&copy, FERRULE_LOG_INFO, "x", 1));
    ANSWER(call->host->log(call, FERRULE_LOG_INFO, NULL, 1));
    request = good, request.in_len = 0;
    ANSWER(call->host->call(call, &request));
    return ferrule_reply_buffer(call, &answers);
}

FERRULE_FN(logs) {
    ferrule_log_error(call, "error %d", 1);
    ferrule_log_warn(call, "warn");
    ferrule_log_info(call, "info");
    ferrule_log_debug(call, "debug");
    ferrule_log_trace(call, "trace");
    call->host->log(call, 77, "a level that is none", 20);
    call->host->log(call, FERRULE_LOG_WARN, "", 0);
    return FERRULE_OK;
}

/* ---- A hook ---------------------------------------------------------------------------------------------------- */

FERRULE_HOOK_META(before_save, FERRULE_DOC("Signs what is saved."));
FERRULE_HOOK(before_save) {
    return ferrule_replyf(call, "%.*s, signed", (int)call->in_len, (const char *)call->in);
}
