#include "host.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int host_failures;
host_seen seen;

static void *library;
static const char *plugin_path;

void host_failed(const char *file, int line, const char *condition, const char *format, ...) {
    va_list args;
    host_failures++;
    fprintf(stderr, "%s:%d: not so: %s: ", file, line, condition);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

/* ---- Memory that ends at a guard page -------------------------------------------------------------------------- */

typedef struct region {
    uint8_t *map;
    size_t size; /* without the guard page */
    uint8_t *at; /* the bytes asked for: the last ones before the guard page */
} region;

static region region_make(size_t len) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    region made;
    made.size = (len / page + 1) * page;
    made.map = (uint8_t *)mmap(NULL, made.size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made.map == MAP_FAILED || mprotect(made.map + made.size, page, PROT_NONE)) die("mmap", "no memory");
    made.at = made.map + made.size - len;
    memset(made.map, 0xA5, made.size);
    return made;
}

/* Has anything been written before the bytes that were asked for? */
static int region_whole(const region *r) {
    const uint8_t *p;
    for (p = r->map; p < r->at; p++)
        if (*p != 0xA5) return 0;
    return 1;
}

static void region_drop(const region *r) { munmap(r->map, r->size + (size_t)sysconf(_SC_PAGESIZE)); }

/* ---- The services ---------------------------------------------------------------------------------------------- */

/* The ordinals are not the sorted places of R5: a plug-in must take what the slot says. */
enum { ECHO = 7, REPEAT, REFUSE, SILENT, GREEDY, HOLLOW, STUCK, GROWING, FORGETFUL, NOT_OFFERED };
static const struct {
    const char *name;
    uint32_t ordinal;
} functions[] = {
    {"echo", ECHO},           /* its input */
    {"repeat", REPEAT},       /* as many `x` as its input says */
    {"refuse", REFUSE},       /* the plug-in's own status 1001 with its input, three times, as the message */
    {"silent", SILENT},       /* FERRULE_FAILED without a message */
    {"greedy", GREEDY},       /* breaks the contract: FERRULE_OK and an out_len over out_cap */
    {"hollow", HOLLOW},       /* breaks it: FERRULE_MORE and nothing kept */
    {"stuck", STUCK},         /* breaks it: FERRULE_MORE for a result that fits */
    {"growing", GROWING},     /* wants more room at each of three fetches */
    {"forgetful", FORGETFUL}, /* FERRULE_MORE, then FERRULE_MISUSE for the fetch */
};
/* A host that is older than wants does not set their slots. */
static const struct {
    const char *name;
    uint32_t ordinal;
} wants[] = {{"cache", ECHO}, {"mail", NOT_OFFERED}, {"translate", ECHO}};

static struct {
    int32_t status;
    char bytes[1 << 16];
    size_t len;
} kept;

static int32_t answer(ferrule_request *request) {
    request->out_len = kept.len;
    if (kept.len > request->out_cap) {
        request->kept = 3;
        return FERRULE_MORE;
    }
    if (kept.len) memcpy(request->out, kept.bytes, kept.len);
    request->kept = 0;
    return kept.status;
}

static int32_t run_function(ferrule_request *request) {
    size_t read = 0;
    if (request->size < sizeof *request) return FERRULE_MISUSE;
    if (request->kept) {
        seen.fetches++;
        if (request->kept != 3 || request->ordinal == FORGETFUL) return FERRULE_MISUSE;
        if (request->ordinal == GROWING && seen.fetches < 3) kept.len *= 2;
        return answer(request);
    }
    seen.runs++;
    kept.status = FERRULE_OK;
    kept.len = 0;
    switch (request->ordinal) {
    case ECHO:
        kept.len = request->in_len;
        if (kept.len) memcpy(kept.bytes, request->in, kept.len);
        break;
    case REPEAT:
        while (read < request->in_len) kept.len = kept.len * 10 + (size_t)(request->in[read++] - '0');
        memset(kept.bytes, 'x', kept.len);
        break;
    case REFUSE:
        kept.status = 1001;
        for (; kept.len < 3 * request->in_len; kept.len += request->in_len)
            memcpy(kept.bytes + kept.len, request->in, request->in_len);
        break;
    case SILENT:
        kept.status = FERRULE_FAILED;
        break;
    case GREEDY:
        request->out_len = request->out_cap + 1;
        return FERRULE_OK;
    case HOLLOW:
        request->out_len = request->out_cap + 1;
        return FERRULE_MORE;
    case STUCK:
        request->out_len = 0;
        request->kept = 3;
        return FERRULE_MORE;
    case GROWING:
    case FORGETFUL:
        kept.len = 1000;
        memset(kept.bytes, 'g', sizeof kept.bytes);
        break;
    case NOT_OFFERED:
        request->out_len = 0;
        return FERRULE_UNSUPPORTED;
    default:
        return FERRULE_MISUSE;
    }
    return answer(request);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the frame for between calls may be used on any thread */

static int32_t service_call(ferrule_call *call, ferrule_request *request) {
    int32_t status;
    if (!call) return FERRULE_MISUSE;
    pthread_mutex_lock(&lock);
    status = run_function(request);
    pthread_mutex_unlock(&lock);
    return status;
}

/* The run that is going on, and what of it the services change. */
static struct {
    const host_run *run;
    ferrule_call *call;
    region rooms[8]; /* the newest one is the room */
    size_t room_count;
    size_t reads, streamed;
    region piece; /* the last one lent */
} now;

static ferrule_call between; /* calls: the background frame */
static uint32_t between_cancel;
static ferrule_host between_table;

static int32_t service_log(ferrule_call *call, uint32_t level, const char *text, size_t text_len) {
    if (!call || text_len >= sizeof seen.line) return FERRULE_MISUSE;
    pthread_mutex_lock(&lock);
    if (seen.lines < sizeof seen.firsts) {
        seen.levels[seen.lines] = level;
        seen.firsts[seen.lines] = text_len ? text[0] : '\0';
    }
    seen.lines++;
    seen.level = level;
    if (text_len) memcpy(seen.line, text, text_len);
    seen.line[text_len] = '\0';
    pthread_mutex_unlock(&lock);
    return FERRULE_OK;
}

static int32_t service_log_fields(ferrule_call *call, uint32_t level, const char *text, size_t text_len,
                                  const char *fields, size_t fields_len) {
    size_t i;
    if (fields_len >= sizeof seen.fields || (fields_len && fields[fields_len - 1])) return FERRULE_MISUSE;
    for (i = 0; i < fields_len; i++) seen.fields[i] = (char)(fields[i] ? fields[i] : ';');
    seen.fields[fields_len] = '\0';
    return service_log(call, level, text, text_len);
}

/* Answers the keys of this table, and keeps what is too long, as the real one does. */
static int32_t service_info(ferrule_call *call, ferrule_request *request) {
    static const char *const known[][2] = {
        {"path", "/opt/plug-ins"}, {"remaining", "1500000000"}, {"instance", "0"},
        {"offers.cache", "yes"},   {"offers.mail", "no"},       {"shop.tenant", NULL}, /* 1,000 times `t` */
        {"shop.wrong", "12 s"},
    };
    size_t i;
    if (call != now.call && call != &between) return FERRULE_MISUSE;
    if (request->kept) {
        seen.fetches++;
        return answer(request);
    }
    seen.infos++;
    if (!request->in_len || request->in_len > 256) return FERRULE_MISUSE;
    for (i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strlen(known[i][0]) != request->in_len || memcmp(known[i][0], request->in, request->in_len)) continue;
        kept.status = FERRULE_OK;
        kept.len = known[i][1] ? strlen(known[i][1]) : 1000;
        if (known[i][1])
            memcpy(kept.bytes, known[i][1], kept.len);
        else
            memset(kept.bytes, 't', kept.len);
        return answer(request);
    }
    request->out_len = 0;
    return FERRULE_UNSUPPORTED;
}

/* What was the room before can no longer be touched. */
static int32_t service_room(ferrule_call *call, size_t n) {
    const region *old = &now.rooms[now.room_count - 1];
    if (call != now.call || call->release || call->out != old->at) return FERRULE_MISUSE;
    if (now.run->no_room || n > PTRDIFF_MAX / 2) return FERRULE_NO_MEMORY;
    if (now.room_count == sizeof now.rooms / sizeof now.rooms[0]) die("host->room", "asked for too often for this test");
    now.rooms[now.room_count] = region_make(n);
    if (call->out_len) memcpy(now.rooms[now.room_count].at, call->out, call->out_len);
    CHECK(region_whole(old), "%s wrote before the room", now.run->symbol);
    mprotect(old->map, old->size, PROT_NONE);
    call->out = now.rooms[now.room_count++].at;
    call->out_cap = n;
    seen.rooms++;
    return FERRULE_OK;
}

/* A piece lies at a guard page, is read-only, and is gone when the next one is lent. */
static int32_t service_read(ferrule_call *call, const uint8_t **piece, size_t *piece_len) {
    size_t len;
    if (call != now.call || !piece || !piece_len) return FERRULE_MISUSE;
    if (!now.run->stream) return FERRULE_UNSUPPORTED;
    if (now.run->cancelled) return FERRULE_CANCELLED;
    if (now.run->stream_breaks && ++now.reads >= now.run->stream_breaks)
        return now.run->stream_status ? now.run->stream_status : FERRULE_FAILED;
    if (now.piece.map) region_drop(&now.piece);
    len = strlen(now.run->stream) - now.streamed;
    if (len > now.run->piece_len) len = now.run->piece_len;
    now.piece = region_make(len);
    if (len) memcpy(now.piece.at, now.run->stream + now.streamed, len);
    mprotect(now.piece.map, now.piece.size, PROT_READ);
    now.streamed += len;
    *piece = now.piece.at;
    *piece_len = len;
    return FERRULE_OK;
}

static int32_t service_write(ferrule_call *call, const uint8_t *piece, size_t piece_len) {
    if (call != now.call || (!piece && piece_len)) return FERRULE_MISUSE;
    if (!now.run->sink) return FERRULE_UNSUPPORTED;
    if (now.run->cancelled) return FERRULE_CANCELLED;
    if (now.run->sink_takes && seen.written_len + piece_len > now.run->sink_takes)
        return now.run->stream_status ? now.run->stream_status : FERRULE_FAILED;
    if (seen.written_len + piece_len >= sizeof seen.written) die("host->write", "more than this test has room for");
    if (piece_len) memcpy(seen.written + seen.written_len, piece, piece_len);
    seen.written_len += piece_len;
    return FERRULE_OK;
}

/* What stands behind a wrapper is the host function echo. */
static int32_t service_next(ferrule_call *call, ferrule_request *request) {
    if (call != now.call) return FERRULE_MISUSE;
    if (!now.run->wraps) return FERRULE_UNSUPPORTED;
    request->ordinal = ECHO;
    return service_call(call, request);
}

static ferrule_call *service_background(ferrule_call *call) {
    if (call != now.call || strcmp(now.run->symbol, "ferrule_start") || !now.run->background) return NULL;
    return &between;
}

static ferrule_host services_1_1(size_t size) {
    ferrule_host services;
    memset(&services, 0, sizeof services);
    services.size = size;
    services.call = service_call;
    services.log = service_log;
    services.log_fields = service_log_fields;
    services.info = service_info;
    services.room = service_room;
    services.read = service_read;
    services.write = service_write;
    services.next = service_next;
    services.background = service_background;
    return services;
}

void host_wait_lines(unsigned count) {
    unsigned lines;
    do {
        usleep(100);
        pthread_mutex_lock(&lock);
        lines = seen.lines;
        pthread_mutex_unlock(&lock);
    } while (lines < count);
}

void host_end_background(int ended) { __atomic_store_n(&between_cancel, ended ? 1 : 0, __ATOMIC_RELEASE); }

void host_forget(void) { memset(&seen, 0, sizeof seen); }

/* ---- The plug-in ----------------------------------------------------------------------------------------------- */

void host_open(int argc, char **argv) {
    void *found;
    size_t i;
    if (argc != 2) die(argv[0], "expected one argument, the plug-in");
    plugin_path = argv[1];
    library = dlopen(plugin_path, RTLD_NOW | RTLD_LOCAL);
    if (!library) die(plugin_path, dlerror());
    found = dlsym(library, "test_live_blocks");
    if (found) memcpy(&live_blocks, &found, sizeof live_blocks);
    found = dlsym(library, "test_allow_allocations");
    if (found) memcpy(&allow_allocations, &found, sizeof allow_allocations);
    for (i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        char symbol[64];
        uint32_t *slot;
        snprintf(symbol, sizeof symbol, "ferrule_import_%s", functions[i].name);
        slot = (uint32_t *)dlsym(library, symbol);
        if (!slot) continue;
        CHECK(*slot == FERRULE_UNBOUND, "%s holds %u before it is set", symbol, (unsigned)*slot);
        *slot = functions[i].ordinal;
    }
    between_table = services_1_1(sizeof between_table);
    between.size = sizeof between;
    between.host = &between_table;
    between.cancel = &between_cancel;
}

/* Sets the slots of the wants, or leaves them to a host that is older. */
static void set_wants(int knows_wants) {
    size_t i;
    for (i = 0; i < sizeof wants / sizeof wants[0]; i++) {
        char symbol[64];
        uint32_t *slot;
        snprintf(symbol, sizeof symbol, "ferrule_want_%s", wants[i].name);
        slot = (uint32_t *)dlsym(library, symbol);
        if (slot) *slot = knows_wants ? wants[i].ordinal : FERRULE_UNBOUND;
    }
}

int host_close(void) {
    if (host_failures) fprintf(stderr, "%s: %d checks failed\n", plugin_path, host_failures);
    return host_failures != 0;
}

void *host_symbol(const char *symbol) {
    void *found = dlsym(library, symbol);
    if (!found) die(symbol, "the plug-in does not export it");
    return found;
}

/* dlsym gives data pointers; ISO C has no cast from one to a function. */
static ferrule_function function(const char *symbol) {
    void *found = host_symbol(symbol);
    ferrule_function fn;
    memcpy(&fn, &found, sizeof fn);
    return fn;
}

host_result host_call(const host_run *run) {
    const size_t frame_size = run->frame_size ? run->frame_size : sizeof(ferrule_call);
    const size_t table_size = run->table_size ? run->table_size : sizeof(ferrule_host);
    const ferrule_function fn = function(run->symbol);
    const region frame = region_make(frame_size);
    const region table = region_make(table_size);
    const region in = region_make(run->in_len);
    const region word = region_make(sizeof(uint32_t));
    const region words = region_make(2 * sizeof(uint64_t));
    const region *room;
    size_t room_cap;
    ferrule_call *const call = (ferrule_call *)(void *)frame.at;
    const ferrule_host services = services_1_1(table_size);
    ferrule_call filled, left;
    host_result result;

    memset(&now, 0, sizeof now);
    now.run = run;
    now.call = call;
    now.rooms[now.room_count++] = region_make(run->room);
    set_wants(table_size > TABLE_1_0);
    memcpy(table.at, &services, table_size < sizeof services ? table_size : sizeof services);

    memset(word.at, 0, sizeof(uint32_t));
    word.at[0] = run->cancelled ? 1 : 0;
    memset(words.at, 0, 2 * sizeof(uint64_t));
    if (run->in_len) memcpy(in.at, run->in, run->in_len);
    mprotect(in.map, in.size, PROT_READ);

    memset(&filled, 0, sizeof filled);
    filled.size = frame_size;
    filled.state = run->state;
    filled.in = in.at;
    filled.in_len = run->in_len;
    filled.out = now.rooms[0].at;
    filled.out_cap = run->room;
    filled.host = (const ferrule_host *)(void *)table.at;
    filled.cancel = run->no_cancel_word ? NULL : (const uint32_t *)(void *)word.at;
    filled.progress = run->no_progress ? NULL : (uint64_t *)(void *)words.at;
    memcpy(frame.at, &filled, frame_size < sizeof filled ? frame_size : sizeof filled);

    memset(&result, 0, sizeof result);
    result.status = fn(call);

    left = filled;
    memcpy(&left, frame.at, frame_size < sizeof left ? frame_size : sizeof left);
    result.state = left.state;
    result.at = left.out;
    CHECK(left.size == filled.size && left.in == filled.in && left.in_len == filled.in_len &&
              left.host == filled.host && left.cancel == filled.cancel && left.progress == filled.progress,
          "%s changed a member of the frame that is not its own (R6)", run->symbol);
    CHECK(result.status >= 0, "%s returned %d (R10)", run->symbol, (int)result.status);
    room = &now.rooms[now.room_count - 1];
    room_cap = (size_t)(room->map + room->size - room->at);
    CHECK(left.out_cap == room_cap || left.release, "%s changed out_cap (R6)", run->symbol);
    CHECK(left.out_len <= PTRDIFF_MAX && (left.out || !left.out_len) &&
              (left.release || (left.out == room->at && left.out_len <= room_cap)),
          "%s left an out of %zu bytes with room for %zu, release %s (R8)", run->symbol, left.out_len, room_cap,
          left.release ? "set" : "not set");
    CHECK(region_whole(room) && region_whole(&frame) && region_whole(&table) && region_whole(&words),
          "%s wrote before the room, the frame, the table or the progress words", run->symbol);
    memcpy(&result.done, words.at, sizeof result.done);
    memcpy(&result.total, words.at + sizeof result.done, sizeof result.total);

    result.len = left.out_len;
    result.out = (char *)malloc(left.out_len + 1);
    if (!result.out) die("malloc", "no memory");
    if (left.out_len) memcpy(result.out, left.out, left.out_len);
    result.out[left.out_len] = '\0';
    if (left.release) {
        left.release(call);
        result.released = 1;
    }
    region_drop(&frame);
    region_drop(&table);
    region_drop(&in);
    while (now.room_count) region_drop(&now.rooms[--now.room_count]);
    if (now.piece.map) region_drop(&now.piece);
    region_drop(&word);
    region_drop(&words);
    now.call = NULL;
    return result;
}

/* ---- Checks over many runs ------------------------------------------------------------------------------------- */

static long no_blocks(void) { return 0; }
static void allow_all(long count) { (void)count; }
long (*live_blocks)(void) = no_blocks;
void (*allow_allocations)(long count) = allow_all;
const char *no_memory_message = "";

const char *times(size_t n, char c) {
    static char texts[2][6001];
    static int turn;
    char *text = texts[turn ^= 1];
    memset(text, c, n);
    text[n] = '\0';
    return text;
}

int host_same(const host_result *r, int32_t status, const char *out, size_t out_len) {
    return r->status == status && r->len == out_len && memcmp(r->out, out, out_len) == 0;
}

void check_without_memory(host_run run, int32_t status, const char *out, size_t out_len) {
    const long before = live_blocks();
    long allowed;
    for (allowed = 0; allowed < 100; allowed++) {
        host_result r;
        int done, cut, none;
        host_forget();
        allow_allocations(allowed);
        r = host_call(&run);
        allow_allocations(-1);
        done = host_same(&r, status, out, out_len);
        cut = status != FERRULE_OK && r.status == status && r.len <= out_len && memcmp(r.out, out, r.len) == 0;
        none = r.status == FERRULE_NO_MEMORY && strncmp(r.out, no_memory_message, r.len) == 0;
        CHECK(done || cut || none, "%s with %ld allocations: status %d, %zu bytes", run.symbol, allowed, (int)r.status,
              r.len);
        CHECK(live_blocks() == before, "%s with %ld allocations leaks", run.symbol, allowed);
        free(r.out);
        if (done && allowed > 20) return;
    }
    CHECK(0, "%s did not succeed with 100 allocations", run.symbol);
}

void check_bytes(const char *name, const char *in, size_t in_len, int32_t status, const char *out, size_t out_len,
                 enum where where) {
    const size_t rooms[] = {0, 1, out_len ? out_len - 1 : 0, out_len, out_len + 1, 8192};
    const size_t frames[] = {0, FRAME_1_0, sizeof(ferrule_call) + 8, 4096};
    const size_t tables[] = {0, TABLE_1_0, sizeof(ferrule_host) + 8, 4096};
    const long before = live_blocks();
    char symbol[64];
    size_t i, j;
    snprintf(symbol, sizeof symbol, "ferrule_fn_%s", name);
    for (i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        host_run run;
        memset(&run, 0, sizeof run);
        run.symbol = symbol;
        run.in = in;
        run.in_len = in_len;
        run.room = rooms[i];
        for (j = 0; j < sizeof frames / sizeof frames[0]; j++) {
            host_result r;
            run.frame_size = frames[j];
            run.table_size = tables[j];
            host_forget();
            r = host_call(&run);
            CHECK(host_same(&r, status, out, out_len), "%s in room for %zu: status %d, \"%s\"; expected %d, \"%s\"",
                  name, run.room, (int)r.status, r.out, (int)status, out);
            CHECK(where == ANYWHERE || (where == OWN ? r.released : !r.released || out_len > run.room || !run.room),
                  "%s in room for %zu: released %d times", name, run.room, r.released);
            CHECK(live_blocks() == before, "%s in room for %zu leaks", name, run.room);
            free(r.out);
        }
        check_without_memory(run, status, out, out_len);
        run.no_room = 1;
        check_without_memory(run, status, out, out_len);
    }
}

void check(const char *name, const char *in, int32_t status, const char *out, enum where where) {
    check_bytes(name, in, strlen(in), status, out, strlen(out), where);
}

void check_run(host_run run, int32_t status, const char *out) {
    const long before = live_blocks();
    host_result r;
    host_forget();
    r = host_call(&run);
    CHECK(host_same(&r, status, out, strlen(out)), "%s: status %d, \"%s\"; expected %d, \"%s\"", run.symbol,
          (int)r.status, r.out, (int)status, out);
    CHECK(live_blocks() == before, "%s leaks", run.symbol);
    free(r.out);
}

host_run running(const char *symbol, const char *in, size_t room) {
    host_run run;
    memset(&run, 0, sizeof run);
    run.symbol = symbol;
    run.in = in;
    run.in_len = strlen(in);
    run.room = room;
    return run;
}
