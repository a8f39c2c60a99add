/* The museum's module in C: what a WebAssembly module has of version 1.1 of the contract. See ../README.md. */
#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("museum-c") FERRULE_VERSION("1.1.0") FERRULE_THREADS("serial")
                   FERRULE_DESCRIPTION("What a module has of version 1.1 of the contract") FERRULE_STATE_FORMAT("count-1")
                       FERRULE_KEY("health", "greet") FERRULE_KEY("provides", "greetings\ncounts")
                           FERRULE_KEY("host.museum", ">=1.1") FERRULE_KEY("permit.memory", "1048576"));

FERRULE_IMPORT(refuse);
FERRULE_WANT(upper);
FERRULE_WANT_META(upper, FERRULE_DOC("The text in capital letters.") FERRULE_KEY("why", "to shout"));
FERRULE_WANT(absent);

FERRULE_CONFIG_SCHEMA = "{\"type\": \"string\", \"maxLength\": 15}";

/* ---- An instance's state: a greeting, which is its configuration, and a count -------------------------------------- */

struct instance {
    char greeting[16];
    long count;
};

static int32_t settings(ferrule_call *call, struct instance *self) {
    char text[sizeof self->greeting];
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status == FERRULE_OK) memcpy(self->greeting, text, sizeof text);
    return status;
}

FERRULE_START {
    struct instance *self = (struct instance *)malloc(sizeof *self);
    int32_t status = FERRULE_NO_MEMORY;
    if (!self) return status;
    memset(self, 0, sizeof *self);
    status = settings(call, self);
    if (status != FERRULE_OK) {
        free(self);
        return status;
    }
    ferrule_log_fields(call, FERRULE_LOG_INFO, "started", "greeting=%s\ncancelled=%d", self->greeting, ferrule_cancelled(call));
    call->state = self;
    return FERRULE_OK;
}

FERRULE_STOP {
    struct instance *self = FERRULE_STATE(call, struct instance);
    ferrule_log_fields(call, FERRULE_LOG_INFO, "stopped", "count=%ld\ncancelled=%d", self->count, ferrule_cancelled(call));
    free(self);
    return FERRULE_OK;
}

FERRULE_CONFIGURE {
    if (!call->in_len) return ferrule_fail(call, FERRULE_INVALID, "found no greeting, expected one");
    return settings(call, FERRULE_STATE(call, struct instance));
}

FERRULE_SAVE { return ferrule_replyf(call, "%ld", FERRULE_STATE(call, struct instance)->count); }

FERRULE_RESUME {
    char text[32], *end;
    long count;
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status != FERRULE_OK) return status;
    count = strtol(text, &end, 10);
    if (end == text || *end) return ferrule_fail(call, FERRULE_INVALID, "found \"%s\", expected a count", text);
    FERRULE_STATE(call, struct instance)->count = count;
    return FERRULE_OK;
}

FERRULE_FN_META(greet, FERRULE_DOC("Greets somebody, and counts.") FERRULE_IN("text/plain") FERRULE_OUT("text/plain")
                           FERRULE_KEY("since", "1.1") FERRULE_KEY("in-schema", "{\"type\": \"string\"}"));
FERRULE_FN(greet) {
    struct instance *self = FERRULE_STATE(call, struct instance);
    return ferrule_replyf(call, "%s, %.*s: %ld", self->greeting, (int)call->in_len, (const char *)call->in, ++self->count);
}

FERRULE_FN(panic) { return ferrule_fail(call, FERRULE_PANIC, "the count is lost"); }

/* ---- Nothing to say -------------------------------------------------------------------------------------------- */

FERRULE_FN(pass) {
    if (call->in_len) return ferrule_fail(call, FERRULE_PASS, "nothing about %.*s", (int)call->in_len, (const char *)call->in);
    return ferrule_pass(call);
}

/* ---- Wants, and what the host knows ------------------------------------------------------------------------------ */

static int32_t ask(ferrule_call *call, uint32_t ordinal, const char *name) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_import(call, ordinal, call->in, call->in_len, &result);
    if (status == FERRULE_OK) return ferrule_reply_buffer(call, &result);
    ferrule_buffer_free(&result);
    return ferrule_fail(call, status, "%s is offered: %d", name, ferrule_offered(call, name));
}

FERRULE_FN(shout) { return ask(call, FERRULE_WANT_ORDINAL(upper), "upper"); }
FERRULE_FN(miss) { return ask(call, FERRULE_WANT_ORDINAL(absent), "absent"); }
FERRULE_FN(refuse) { return ask(call, FERRULE_ORDINAL(refuse), "refuse"); }

FERRULE_FN_META(between, FERRULE_DOC("Whether anything can happen between calls: in a module nothing runs then."));
FERRULE_FN(between) { return ferrule_reply_text(call, ferrule_background(call) ? "yes" : "no"); }

FERRULE_FN_META(info, FERRULE_DOC("What the host knows under a key."));
FERRULE_FN(info) {
    char key[300];
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_in_text(call, key, sizeof key);
    if (status != FERRULE_OK) return status;
    status = ferrule_info(call, key, &result);
    if (status == FERRULE_OK) return ferrule_reply_buffer(call, &result);
    ferrule_buffer_free(&result);
    return ferrule_fail(call, status, "it does not say");
}

FERRULE_FN(has_path) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_info(call, "path", &result);
    size_t len = result.len;
    ferrule_buffer_free(&result);
    if (status != FERRULE_OK) return status;
    return ferrule_reply_text(call, len ? "yes" : "no");
}

/* ---- Room -------------------------------------------------------------------------------------------------------- */

FERRULE_FN_META(fill, FERRULE_DOC("As many letters as the input says, in the host's room, which it asks for twice."));
FERRULE_FN(fill) {
    char text[32];
    size_t n, half, i;
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status != FERRULE_OK) return status;
    n = (size_t)strtol(text, NULL, 10);
    half = n / 2;
    if (half > call->out_cap && (status = ferrule_room(call, half)) != FERRULE_OK) return status;
    for (i = 0; i < half; i++) call->out[i] = 'a';
    call->out_len = half;
    if (n > call->out_cap && (status = ferrule_room(call, n)) != FERRULE_OK) return status;
    for (i = half; i < n; i++) call->out[i] = 'b';
    call->out_len = n;
    return FERRULE_OK;
}

/* ---- Streams ----------------------------------------------------------------------------------------------------- */

FERRULE_FN_META(sum, FERRULE_DOC("The sum of the stream's bytes, and how many there are.") FERRULE_STREAM("in"));
FERRULE_FN(sum) {
    const uint8_t *piece;
    size_t len, i;
    unsigned long sum = 0, n = 0;
    int32_t status;
    while ((status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len) {
        for (i = 0; i < len; i++) sum += piece[i];
        ferrule_set_progress(call, n += (unsigned long)len, 0);
    }
    if (status != FERRULE_OK) return ferrule_fail(call, status, "after %lu bytes", n);
    return ferrule_replyf(call, "%lu %lu", sum, n);
}

FERRULE_FN_META(lines, FERRULE_DOC("The numbers below the input, each in a line.") FERRULE_STREAM("out"));
FERRULE_FN(lines) {
    char text[32];
    long i, n;
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status != FERRULE_OK) return status;
    n = strtol(text, NULL, 10);
    for (i = 0; i < n; i++)
        if ((status = ferrule_writef(call, "%ld\n", i)) != FERRULE_OK) return ferrule_fail(call, status, "nobody takes it");
    return ferrule_replyf(call, "%ld lines", n);
}

FERRULE_FN_META(prefix, FERRULE_DOC("The stream behind the input.") FERRULE_STREAM("both"));
FERRULE_FN(prefix) {
    const uint8_t *piece;
    size_t len;
    int32_t status = ferrule_write(call, call->in, call->in_len);
    while (status == FERRULE_OK && (status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len)
        status = ferrule_write(call, piece, len);
    return status == FERRULE_OK ? ferrule_reply_text(call, "done") : status;
}

/* ---- Progress, fields -------------------------------------------------------------------------------------------- */

FERRULE_FN(work) {
    uint64_t i;
    for (i = 1; i <= 100; i++) ferrule_set_progress(call, i, 100);
    return ferrule_reply_text(call, FERRULE_HAS(call, progress) && call->progress ? "watched" : "unwatched");
}

FERRULE_FN(fields) {
    static const char bad[] = "no value\0caf\351=1\0=2";
    ferrule_log_fields(call, FERRULE_LOG_WARN, "a line", "width=%d\nname=%s", 7, "a b");
    if (!FERRULE_HAS(call->host, log_fields)) return FERRULE_UNSUPPORTED;
    call->host->log_fields(call, FERRULE_LOG_INFO, "as they should not be", 21, bad, sizeof bad);
    return FERRULE_OK;
}

/* ---- A wrapper ----------------------------------------------------------------------------------------------------- */

FERRULE_HOOK_META(around, FERRULE_DOC("Stands around what is behind it.") FERRULE_KEY("wrap", "yes") FERRULE_KEY("order", "first")
                              FERRULE_KEY("before", "log\nauth") FERRULE_KEY("priority", "-7") FERRULE_KEY("optional", "yes"));
FERRULE_HOOK(around) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status = ferrule_next(call, call->in, call->in_len, &result), sent;
    if (status == FERRULE_OK) ferrule_buffer_append(&result, "!", 1);
    sent = ferrule_reply_buffer(call, &result);
    return sent != FERRULE_OK ? sent : status;
}

/* ---- What the host must refuse: the statuses, one after the other -------------------------------------------------- */

FERRULE_FN(misuse) {
    const uint8_t *piece;
    size_t len = 0;
    ferrule_request request;
    int32_t a, b, c;
    if (!FERRULE_HAS(call->host, background)) return FERRULE_UNSUPPORTED;
    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    a = call->host->info(call, &request);
    b = call->host->next(call, &request);
    c = call->host->read(call, &piece, &len);
    return ferrule_replyf(call, "%d %d %d %d", (int)a, (int)b, (int)c, (int)call->host->write(call, NULL, 0));
}
