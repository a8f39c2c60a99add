/* JavaScript as a plug-in: quickjs-ng, of which each instance has a runtime of its own. Package script opens it, and says
 * to its host what the script's header says. SPDX-License-Identifier: MIT
 *
 * ferrule_start gets texts, each behind its length, 4 bytes, least byte first:
 *   what package script's module `ferrule` is, in JavaScript
 *   the script's name, by which its errors and its imports are told
 *   the script
 *   its functions, behind them its hooks, and behind these, with the kind s, those of configure, save, resume and stop that it has, one a line: the kind of
 *   the input (t, j or b), and the exported name
 *   the host functions that it may call, in the order of their ordinals, one a line
 *   its settings
 *   how much memory it may have, in bytes, a decimal number; 0 is no limit
 * ferrule_configure gets the same, and takes the settings. Function i of the script is ferrule_fn_fi; the host function i of the script is the
 * want wi, whose ordinal is i. Behind them all is the want `x`, which returns the text of a file that the script imports. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* pthread_getattr_np */
#endif
#include <ferrule/sdk.h>
#include <quickjs.h>
#if !defined(__wasm__) && !defined(_WIN32)
#include <pthread.h>
#endif

/* The version is what package script and this file agree on: it is raised with each change of what is above. */
FERRULE_PLUGIN(FERRULE_NAME("ferrule-javascript") FERRULE_VERSION("1.0.0") FERRULE_DESCRIPTION(
    "Runs plug-ins in JavaScript.") FERRULE_STATE_FORMAT("script"));

#define MOST 64 /* functions with hooks, and host functions */

/* Expands one(d, u) for each d and u of 00 to 63. */
#define TEN_(one, d)                                                                                                   \
    one(d, 0) one(d, 1) one(d, 2) one(d, 3) one(d, 4) one(d, 5) one(d, 6) one(d, 7) one(d, 8) one(d, 9)
#define ALL_(one)                                                                                                      \
    TEN_(one, 0) TEN_(one, 1) TEN_(one, 2) TEN_(one, 3) TEN_(one, 4) TEN_(one, 5)                                      \
    one(6, 0) one(6, 1) one(6, 2) one(6, 3)

#define WANT_(d, u) FERRULE_WANT(w##d##u);
ALL_(WANT_)
FERRULE_WANT(x);
#define FILES_ORDINAL MOST

typedef struct {
    JSValue fn; /* JS_UNDEFINED where the script exports none */
    char kind;  /* of its input: t for a text, j for JSON, b for bytes */
} function;

typedef struct {
    JSRuntime *rt;
    JSContext *cx;
    ferrule_call *call; /* that runs */
    const char *thread; /* on which it runs */
    JSValue pass;       /* what a function returns that has nothing to say */
    JSValue failure;    /* class Failure */
    JSValue lost;       /* a promise that failed when nobody waited for it, or JS_UNDEFINED */
    JSValue settings;   /* an ArrayBuffer */
    JSValue configure, save, resume, stop;
    JSValue describe; /* (error) => text */
    function fns[MOST];
    size_t count;
} script;

typedef struct {
    const uint8_t *at;
    size_t len;
} text;

/* ---- Values ---- */

static int is_bytes(JSValueConst v) { return JS_IsArrayBuffer(v) || JS_GetTypedArrayType(v) >= 0 || JS_IsDataView(v); }

/* The bytes of an ArrayBuffer, a typed array or a DataView, which stay the value's own. */
static int bytes_of(JSContext *cx, JSValueConst v, text *out) {
    size_t offset = 0, len = 0, size = 0;
    uint8_t *at;
    if (JS_IsArrayBuffer(v)) {
        at = JS_GetArrayBuffer(cx, &len, v);
    } else if (JS_IsDataView(v)) {
        JSValue buffer = JS_GetPropertyStr(cx, v, "buffer"), from = JS_GetPropertyStr(cx, v, "byteOffset"),
                n = JS_GetPropertyStr(cx, v, "byteLength");
        int64_t o = 0, l = 0;
        int known = JS_IsNumber(from) && JS_IsNumber(n) && !JS_ToInt64(cx, &o, from) && !JS_ToInt64(cx, &l, n); /* they throw where it is detached */
        at = known ? JS_GetArrayBuffer(cx, &size, buffer) : NULL;
        JS_FreeValue(cx, buffer);
        if (!known) {
            if (!JS_HasException(cx)) JS_ThrowTypeError(cx, "found a DataView whose length is no number");
            return 0;
        }
        if (!at || (size_t)o > size || (size_t)l > size - (size_t)o) at = NULL;
        else at += o;
        len = (size_t)l;
    } else {
        /* Its length is asked for: that of an array over a buffer that was resized is not the one that it was made with. */
        JSValue buffer = JS_GetTypedArrayBuffer(cx, v, &offset, &len, NULL), n;
        int64_t l = 0;
        if (JS_IsException(buffer)) return 0;
        n = JS_GetPropertyStr(cx, v, "byteLength");
        at = JS_IsNumber(n) && !JS_ToInt64(cx, &l, n) ? JS_GetArrayBuffer(cx, &size, buffer) : NULL;
        JS_FreeValue(cx, n);
        JS_FreeValue(cx, buffer);
        len = (size_t)l;
        if (at && (offset > size || len > size - offset)) at = NULL;
        if (at) at += offset;
    }
    if (!at && len) {
        if (!JS_HasException(cx)) JS_ThrowTypeError(cx, "found bytes whose buffer does not have them, expected those of a buffer that was neither cut nor given away");
        return 0;
    }
    out->at = at ? at : (const uint8_t *)"";
    out->len = len;
    return 1;
}

typedef struct {
    text bytes;
    const char *string; /* to free, or NULL */
    JSValue owner;      /* to free */
} flat;

/* What a value is as bytes: a text's UTF-8, bytes as they are, nothing of undefined, and JSON of all else. 0 with an exception. */
static int flatten(JSContext *cx, JSValueConst v, flat *out) {
    out->string = NULL;
    out->owner = JS_UNDEFINED;
    out->bytes.at = (const uint8_t *)"";
    out->bytes.len = 0;
    if (JS_IsUndefined(v)) return 1;
    if (is_bytes(v)) return bytes_of(cx, v, &out->bytes);
    if (!JS_IsString(v)) {
        out->owner = JS_JSONStringify(cx, v, JS_UNDEFINED, JS_UNDEFINED);
        if (JS_IsException(out->owner)) return 0;
        if (JS_IsUndefined(out->owner)) {
            JS_ThrowTypeError(cx, "a function or a symbol is no result: return a string, bytes, or what JSON has");
            return 0;
        }
        v = out->owner;
    }
    out->string = JS_ToCStringLen(cx, &out->bytes.len, v);
    if (!out->string) {
        JS_FreeValue(cx, out->owner);
        return 0;
    }
    out->bytes.at = (const uint8_t *)out->string;
    return 1;
}

static void unflatten(JSContext *cx, flat *f) {
    if (f->string) JS_FreeCString(cx, f->string);
    JS_FreeValue(cx, f->owner);
}

/* ---- What the module `ferrule` is made of ---- */

static script *of(JSContext *cx) { return JS_GetContextOpaque(cx); }

#if defined(__wasm__)
static char this_thread; /* there is one */
#else
static __thread char this_thread;
#endif

/* How much stack a script may use on this thread, from here on. */
static size_t stack_size(void) {
#if defined(__wasm__)
    return 512 << 10; /* of 1 MiB, as it is linked */
#elif defined(__linux__)
    static __thread char *low;
    size_t left;
    if (!low) {
        pthread_attr_t attr;
        void *at = NULL;
        size_t size = 0;
        if (!pthread_getattr_np(pthread_self(), &attr)) {
            if (!pthread_attr_getstack(&attr, &at, &size)) low = at;
            pthread_attr_destroy(&attr);
        }
    }
    left = low && low < (char *)__builtin_frame_address(0) ? (size_t)((char *)__builtin_frame_address(0) - low) : 0;
    return left > (2048 << 10) ? 1024 << 10 : left > (64 << 10) ? left / 2 : 32 << 10;
#else
    return 192 << 10; /* of 512 KiB, which threads have at least */
#endif
}

static void on_this_thread(script *s) {
    s->thread = &this_thread;
    JS_UpdateStackTop(s->rt);
    JS_SetMaxStackSize(s->rt, stack_size());
}

/* Has call be the one that runs, and returns the one that it came from, or NULL. What comes from another call on the same thread shares that one's stack. */
static ferrule_call *enter(script *s, ferrule_call *call) {
    ferrule_call *outer = s->call;
    s->call = call;
    if (!outer || s->thread != &this_thread) on_this_thread(s);
    return outer;
}

/* Behind what may have run calls of this instance on other threads. */
static void back(script *s) {
    if (s->thread != &this_thread) on_this_thread(s);
}

/* [status, ArrayBuffer] */
static JSValue answer(JSContext *cx, int32_t status, ferrule_buffer *result) {
    JSValue pair = JS_NewArray(cx);
    JS_SetPropertyUint32(cx, pair, 0, JS_NewInt32(cx, status));
    JS_SetPropertyUint32(cx, pair, 1, JS_NewArrayBufferCopy(cx, result->data ? result->data : (uint8_t *)"", result->len));
    ferrule_buffer_free(result);
    return pair;
}

/* call(ordinal, input) */
static JSValue host_call(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    uint32_t ordinal;
    int32_t status;
    flat in;
    (void)self, (void)argc;
    if (JS_ToUint32(cx, &ordinal, argv[0]) || !flatten(cx, argv[1], &in)) return JS_EXCEPTION;
    status = ferrule_import(of(cx)->call, ordinal, in.bytes.at, in.bytes.len, &result);
    back(of(cx));
    unflatten(cx, &in);
    return answer(cx, status, &result);
}

/* next(input) */
static JSValue host_next(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status;
    flat in;
    (void)self, (void)argc;
    if (!flatten(cx, argv[0], &in)) return JS_EXCEPTION;
    status = ferrule_next(of(cx)->call, in.bytes.at, in.bytes.len, &result);
    back(of(cx));
    unflatten(cx, &in);
    return answer(cx, status, &result);
}

/* info(key): its text, or undefined */
static JSValue host_info(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    const char *key = JS_ToCString(cx, argv[0]);
    JSValue found = JS_UNDEFINED;
    (void)self, (void)argc;
    if (!key) return JS_EXCEPTION;
    if (ferrule_info(of(cx)->call, key, &result) == FERRULE_OK)
        found = JS_NewStringLen(cx, result.data ? (char *)result.data : "", result.len);
    ferrule_buffer_free(&result);
    JS_FreeCString(cx, key);
    return found;
}

/* log(level, text, fields): fields are key=value texts, each closed by a NUL */
static JSValue host_log(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len = 0, fields_len = 0;
    const char *line = JS_ToCStringLen(cx, &len, argv[1]), *fields = line ? JS_ToCStringLen(cx, &fields_len, argv[2]) : NULL;
    uint32_t level = FERRULE_LOG_INFO;
    JSValue done = JS_EXCEPTION;
    (void)self, (void)argc;
    if (line && fields && !JS_ToUint32(cx, &level, argv[0])) {
        ferrule_log_fields_(of(cx)->call, level, line, len, fields, fields_len);
        done = JS_UNDEFINED;
    }
    if (line) JS_FreeCString(cx, line);
    if (fields) JS_FreeCString(cx, fields);
    return done;
}

/* read(): [status, ArrayBuffer]; an empty one is the stream's end */
static JSValue host_read(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    ferrule_buffer none = FERRULE_BUFFER_INIT;
    const uint8_t *piece = NULL;
    size_t len = 0;
    int32_t status = ferrule_read(of(cx)->call, &piece, &len);
    (void)self, (void)argc, (void)argv;
    if (status == FERRULE_OK && len) {
        JSValue pair = JS_NewArray(cx);
        JS_SetPropertyUint32(cx, pair, 0, JS_NewInt32(cx, status));
        JS_SetPropertyUint32(cx, pair, 1, JS_NewArrayBufferCopy(cx, piece, len));
        return pair;
    }
    return answer(cx, status, &none);
}

/* write(piece): a status */
static JSValue host_write(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    int32_t status;
    flat in;
    (void)self, (void)argc;
    if (!flatten(cx, argv[0], &in)) return JS_EXCEPTION;
    status = ferrule_write(of(cx)->call, in.bytes.at, in.bytes.len);
    unflatten(cx, &in);
    return JS_NewInt32(cx, status);
}

/* progress(done, total) */
static JSValue host_progress(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    int64_t done, total;
    (void)self, (void)argc;
    if (JS_ToInt64(cx, &done, argv[0]) || JS_ToInt64(cx, &total, argv[1])) return JS_EXCEPTION;
    ferrule_set_progress(of(cx)->call, (uint64_t)(done < 0 ? 0 : done), (uint64_t)(total < 0 ? 0 : total));
    return JS_UNDEFINED;
}

static JSValue host_cancelled(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self, (void)argc, (void)argv;
    return JS_NewBool(cx, ferrule_cancelled(of(cx)->call));
}

static JSValue host_settings(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    (void)self, (void)argc, (void)argv;
    return JS_DupValue(cx, of(cx)->settings);
}

/* encode(text): an ArrayBuffer; decode(bytes): a text, in which what is no UTF-8 is U+FFFD */
static JSValue host_encode(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    size_t len;
    const char *s = JS_ToCStringLen(cx, &len, argv[0]);
    JSValue buffer;
    (void)self, (void)argc;
    if (!s) return JS_EXCEPTION;
    buffer = JS_NewArrayBufferCopy(cx, (const uint8_t *)s, len);
    JS_FreeCString(cx, s);
    return buffer;
}

static JSValue host_decode(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    text bytes;
    (void)self, (void)argc;
    if (!is_bytes(argv[0])) return JS_ThrowTypeError(cx, "found no bytes, expected an ArrayBuffer, a typed array or a DataView");
    if (!bytes_of(cx, argv[0], &bytes)) return JS_EXCEPTION;
    return JS_NewStringLen(cx, (const char *)bytes.at, bytes.len);
}

/* keep(failure, pass, describe): what this file needs of the module `ferrule` */
static JSValue host_keep(JSContext *cx, JSValueConst self, int argc, JSValueConst *argv) {
    script *s = of(cx);
    (void)self, (void)argc;
    if (!JS_IsUndefined(s->failure)) return JS_UNDEFINED;
    s->failure = JS_DupValue(cx, argv[0]);
    s->pass = JS_DupValue(cx, argv[1]);
    s->describe = JS_DupValue(cx, argv[2]);
    return JS_UNDEFINED;
}

static const struct {
    const char *name;
    JSCFunction *fn;
    int args;
} primitives[] = {{"call", host_call, 2},           {"next", host_next, 1},         {"info", host_info, 1},
                  {"log", host_log, 3},             {"read", host_read, 0},         {"write", host_write, 1},
                  {"progress", host_progress, 2},   {"cancelled", host_cancelled, 0}, {"settings", host_settings, 0},
                  {"encode", host_encode, 1},       {"decode", host_decode, 1},     {"keep", host_keep, 3}};

/* ---- Modules ---- */

/* The names of the module `ferrule`, and of what it imports. Nothing else can have them: normalize makes no path that begins with a slash. */
#define MODULE "/ferrule"
#define PRIMITIVES "ferrule:primitives"
#define PRIMITIVES_NAME "/ferrule/primitives"

static int init_primitives(JSContext *cx, JSModuleDef *m) {
    size_t i;
    for (i = 0; i < sizeof primitives / sizeof *primitives; i++)
        JS_SetModuleExport(cx, m, primitives[i].name,
                           JS_NewCFunction(cx, primitives[i].fn, primitives[i].name, primitives[i].args));
    return 0;
}

/* The name of what `base` imports as `name`: "ferrule", or a path from the script's folder, in slashes. */
static char *normalize(JSContext *cx, const char *base, const char *name, void *opaque) {
    const char *slash = strrchr(base, '/'), *part = name;
    size_t room = strlen(base) + strlen(name) + 2, len = slash ? (size_t)(slash - base) : 0;
    char *out;
    (void)opaque;
    if (!strcmp(name, "ferrule")) return js_strdup(cx, MODULE);
    if (!strcmp(base, MODULE) && !strcmp(name, PRIMITIVES)) return js_strdup(cx, PRIMITIVES_NAME);
    if (strncmp(name, "./", 2) && strncmp(name, "../", 3)) {
        JS_ThrowReferenceError(cx, "%s imports \"%s\": found neither \"ferrule\" nor a path that begins with ./ or ../, expected one of these", base, name);
        return NULL;
    }
    out = js_malloc(cx, room);
    if (!out) return NULL;
    memcpy(out, base, len);
    while (part) {
        const char *end = strchr(part, '/');
        size_t n = end ? (size_t)(end - part) : strlen(part);
        if (n == 2 && !memcmp(part, "..", 2)) {
            if (!len) {
                js_free(cx, out);
                JS_ThrowReferenceError(cx, "%s imports \"%s\", which is not beneath the script's folder", base, name);
                return NULL;
            }
            while (len && out[len - 1] != '/') len--;
            if (len) len--;
        } else if (n && !(n == 1 && *part == '.')) {
            if (len) out[len++] = '/';
            memcpy(out + len, part, n);
            len += n;
        }
        part = end ? end + 1 : NULL;
    }
    out[len] = 0;
    return out;
}

static JSModuleDef *compiled(JSContext *cx, const char *source, size_t len, const char *name) {
    JSValue v = JS_Eval(cx, source, len, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY);
    JSModuleDef *m;
    if (JS_IsException(v)) return NULL;
    m = JS_VALUE_GET_PTR(v);
    JS_FreeValue(cx, v); /* the context has it */
    return m;
}

static JSModuleDef *load(JSContext *cx, const char *name, void *opaque) {
    ferrule_buffer source = FERRULE_BUFFER_INIT;
    int32_t status;
    JSModuleDef *m = NULL;
    (void)opaque;
    if (!strcmp(name, PRIMITIVES_NAME)) {
        size_t i;
        m = JS_NewCModule(cx, name, init_primitives);
        for (i = 0; m && i < sizeof primitives / sizeof *primitives; i++) JS_AddModuleExport(cx, m, primitives[i].name);
        return m;
    }
    status = ferrule_import(of(cx)->call, FILES_ORDINAL, name, strlen(name), &source);
    if (status != FERRULE_OK) {
        JS_ThrowReferenceError(cx, "%.*s", (int)source.len, source.data ? (char *)source.data : "");
    } else {
        const char *whole = ferrule_buffer_text(&source); /* closed by a NUL, as JS_Eval has it */
        size_t n = strlen(name);
        if (n > 5 && !strcmp(name + n - 5, ".json")) {
            ferrule_buffer wrapped = FERRULE_BUFFER_INIT;
            JSValue parsed = JS_ParseJSON(cx, whole, source.len, name);
            if (!JS_IsException(parsed)) {
                ferrule_buffer_append(&wrapped, "export default ", 15);
                ferrule_buffer_append(&wrapped, whole, source.len);
                m = compiled(cx, ferrule_buffer_text(&wrapped), wrapped.len, name);
            }
            JS_FreeValue(cx, parsed);
            ferrule_buffer_free(&wrapped);
        } else {
            m = compiled(cx, whole, source.len, name);
        }
    }
    ferrule_buffer_free(&source);
    return m;
}

/* ---- Calls ---- */

static int interrupted(JSRuntime *rt, void *opaque) {
    script *s = opaque;
    (void)rt;
    return s->call && ferrule_cancelled(s->call);
}

/* Keeps the first promise that fails when nobody waits for it; forgets it where somebody comes for it later. */
static void rejection(JSContext *cx, JSValueConst promise, JSValueConst reason, bool handled, void *opaque) {
    script *s = opaque;
    (void)reason;
    if (!handled && JS_IsUndefined(s->lost)) {
        s->lost = JS_DupValue(cx, promise);
    } else if (handled && JS_IsObject(s->lost) && JS_VALUE_GET_PTR(s->lost) == JS_VALUE_GET_PTR(promise)) {
        JS_FreeValue(cx, s->lost);
        s->lost = JS_UNDEFINED;
    }
}

static int32_t fail(script *s, ferrule_call *call, JSValue error);

/* Of quickjs.c, by build.sh: forgets the jobs that wait. */
void ferrule_drop_jobs(JSRuntime *rt);

/* Runs what waits to run, until there is nothing. 1; 0 with a job's exception; -1 when the call was cancelled, and the rest is forgotten: the next call would run it otherwise, maybe
 * without end. An interrupt by itself ends one job, and not those that it has made. */
static int run_jobs(script *s, ferrule_call *call) {
    JSContext *cx;
    for (;;) {
        int n = JS_ExecutePendingJob(s->rt, &cx);
        if (n == 0) return 1;
        if (ferrule_cancelled(call)) {
            ferrule_drop_jobs(s->rt);
            if (n < 0) JS_FreeValue(s->cx, JS_GetException(s->cx));
            return -1;
        }
        if (n < 0) return 0;
    }
}

static void forget_lost(script *s) {
    JS_FreeValue(s->cx, s->lost);
    s->lost = JS_UNDEFINED;
}

/* Runs what a call that failed has left, and forgets how that fails, too. */
static void drain(script *s, ferrule_call *call) {
    while (run_jobs(s, call) == 0) JS_FreeValue(s->cx, JS_GetException(s->cx));
    forget_lost(s);
}

/* Runs what waits to run. Returns FERRULE_OK, or the status of what was replied. */
static int32_t settle(script *s, ferrule_call *call) {
    int32_t status;
    switch (run_jobs(s, call)) {
    case -1:
        forget_lost(s);
        return FERRULE_CANCELLED;
    case 0:
        status = fail(s, call, JS_GetException(s->cx));
        drain(s, call);
        return status;
    }
    if (!JS_IsUndefined(s->lost)) {
        JSValue why = JS_PromiseResult(s->cx, s->lost);
        forget_lost(s);
        status = fail(s, call, why);
        drain(s, call);
        return status;
    }
    return FERRULE_OK;
}

/* Whether an error is the end that the host has made of the call. */
static int ended(ferrule_call *call, JSValueConst error) {
    return JS_IsUncatchableError(error) && ferrule_cancelled(call);
}

/* Takes the exception away; 1 where it is the call's end. */
static int caught(script *s, ferrule_call *call) {
    JSValue error = JS_GetException(s->cx);
    int is = ended(call, error);
    JS_FreeValue(s->cx, error);
    return is;
}

/* Whether an error is one that the interpreter itself throws where it lacks something. */
static int is_internal(JSContext *cx, JSValueConst error) {
    JSValue name;
    const char *text;
    int is = 0;
    if (!JS_IsError(error)) return 0;
    name = JS_GetPropertyStr(cx, error, "name");
    text = JS_IsString(name) ? JS_ToCString(cx, name) : NULL;
    if (text) is = !strcmp(text, "InternalError");
    if (text) JS_FreeCString(cx, text);
    else JS_FreeValue(cx, JS_GetException(cx));
    JS_FreeValue(cx, name);
    return is;
}

/* Replies with what an exception says. It takes the error. */
static int32_t fail(script *s, ferrule_call *call, JSValue error) {
    JSContext *cx = s->cx;
    int32_t status = FERRULE_FAILED;
    JSValue said, number;
    flat message;
    int own;
    if (ended(call, error)) {
        JS_FreeValue(cx, error);
        return FERRULE_CANCELLED;
    }
    if (JS_IsNull(error) || is_internal(cx, error)) JS_RunGC(s->rt); /* it may be that memory is out: what refers to itself goes */
    own = JS_IsObject(s->failure) ? JS_IsInstanceOf(cx, error, s->failure) : 0;
    if (own < 0 && caught(s, call)) {
        JS_FreeValue(cx, error);
        return FERRULE_CANCELLED;
    }
    if (own > 0) {
        number = JS_GetPropertyStr(cx, error, "status");
        /* The other statuses are the contract's own. */
        if (!JS_IsNumber(number) || JS_ToInt32(cx, &status, number) || ((status < FERRULE_FAILED || status > FERRULE_NO_MEMORY) && status < 1000)) status = FERRULE_FAILED;
        if (JS_IsException(number)) caught(s, call);
        JS_FreeValue(cx, number);
        said = JS_GetPropertyStr(cx, error, "message");
    } else {
        said = JS_IsUndefined(s->describe) ? JS_UNDEFINED : JS_Call(cx, s->describe, JS_UNDEFINED, 1, (JSValueConst *)&error);
        if (JS_IsException(said) && caught(s, call)) {
            JS_FreeValue(cx, error);
            return FERRULE_CANCELLED;
        }
        /* Without it, or where the script has replaced what it needs. */
        if (JS_IsUndefined(s->describe) || JS_IsException(said)) said = JS_ToString(cx, error);
    }
    JS_FreeValue(cx, error);
    if (!JS_IsException(said) && flatten(cx, said, &message)) {
        ferrule_reply(call, message.bytes.at, message.bytes.len);
        unflatten(cx, &message);
        JS_FreeValue(cx, said);
        return status;
    }
    JS_FreeValue(cx, said);
    if (caught(s, call)) return FERRULE_CANCELLED;
    ferrule_replyf(call, "the script failed, and its error cannot be shown"); /* no memory, or an error that fails itself */
    return status;
}

/* Calls fn with one value, which it takes, and replies with what it returns, or what its promise comes to. */
static int32_t run(script *s, ferrule_call *call, JSValueConst fn, JSValue in) {
    JSContext *cx = s->cx;
    JSValue out = JS_Call(cx, fn, JS_UNDEFINED, 1, (JSValueConst *)&in);
    int32_t status = FERRULE_OK;
    flat result;
    JS_FreeValue(cx, in);
    if (JS_IsException(out)) {
        status = fail(s, call, JS_GetException(cx));
        drain(s, call);
        return status;
    }
    if (JS_IsObject(out) && JS_IsPromise(out)) {
        JSValue promise = out;
        JS_PromiseMarkAsHandled(cx, promise);
        status = settle(s, call);
        out = status == FERRULE_OK ? JS_PromiseResult(cx, promise) : JS_UNDEFINED;
        if (status == FERRULE_OK) switch (JS_PromiseState(cx, promise)) {
            case JS_PROMISE_PENDING:
                ferrule_replyf(call, "the promise that the function returned never settles: nothing is left that could run");
                status = FERRULE_FAILED;
                break;
            case JS_PROMISE_REJECTED:
                status = fail(s, call, JS_DupValue(cx, out));
                break;
            default:
                break;
            }
        JS_FreeValue(cx, promise);
    } else {
        status = JS_IsJobPending(s->rt) || !JS_IsUndefined(s->lost) ? settle(s, call) : FERRULE_OK;
    }
    if (status == FERRULE_OK) {
        if (JS_IsSymbol(out) && JS_IsStrictEqual(cx, out, s->pass)) {
            status = ferrule_pass(call);
        } else if (flatten(cx, out, &result)) {
            status = ferrule_reply(call, result.bytes.at, result.bytes.len);
            unflatten(cx, &result);
        } else {
            status = fail(s, call, JS_GetException(cx));
        }
        if (JS_IsJobPending(s->rt) || !JS_IsUndefined(s->lost)) drain(s, call); /* what making a text of the result has left */
    }
    JS_FreeValue(cx, out);
    return status;
}

static JSValue input(JSContext *cx, char kind, ferrule_call *call) {
    if (kind == 't') return JS_NewStringLen(cx, (const char *)call->in, call->in_len);
    if (kind == 'j') {
        /* JS_ParseJSON needs a NUL behind what it reads. */
        char *copy = js_malloc(cx, call->in_len + 1);
        JSValue v;
        if (!copy) return JS_EXCEPTION;
        memcpy(copy, call->in, call->in_len);
        copy[call->in_len] = 0;
        v = JS_ParseJSON(cx, copy, call->in_len, "input");
        js_free(cx, copy);
        return v;
    } else {
        JSValue buffer = JS_NewArrayBufferCopy(cx, call->in, call->in_len), array;
        if (JS_IsException(buffer)) return buffer;
        array = JS_NewTypedArray(cx, 1, (JSValueConst *)&buffer, JS_TYPED_ARRAY_UINT8);
        JS_FreeValue(cx, buffer);
        return array;
    }
}

static int32_t invoke(ferrule_call *call, size_t i) {
    script *s = FERRULE_STATE(call, script);
    ferrule_call *outer;
    int32_t status;
    JSValue in;
    if (i >= s->count) return FERRULE_UNSUPPORTED;
    outer = enter(s, call);
    in = input(s->cx, s->fns[i].kind, call);
    if (JS_IsException(in)) {
        status = fail(s, call, JS_GetException(s->cx));
        if (s->fns[i].kind == 'j' && status == FERRULE_FAILED) status = FERRULE_INVALID;
    } else {
        status = run(s, call, s->fns[i].fn, in);
    }
    s->call = outer;
    return status;
}

#define INVOKE_(d, u)                                                                                                  \
    FERRULE_FN(f##d##u) { return invoke(call, (d) * 10 + (u)); }
ALL_(INVOKE_)

/* ---- An instance ---- */

static int take(const uint8_t **at, size_t *left, text *out) {
    size_t n;
    if (*left < 4) return 0;
    n = (size_t)(*at)[0] | (size_t)(*at)[1] << 8 | (size_t)(*at)[2] << 16 | (size_t)(*at)[3] << 24;
    *at += 4;
    *left -= 4;
    if (n > *left) return 0;
    out->at = *at;
    out->len = n;
    *at += n;
    *left -= n;
    return 1;
}

#define PARTS 7

static int take_all(ferrule_call *call, text *parts) {
    const uint8_t *at = call->in;
    size_t left = call->in_len, i;
    for (i = 0; i < PARTS; i++)
        if (!take(&at, &left, &parts[i])) return 0;
    return 1;
}

static void drop(script *s) {
    JSValue *values[] = {&s->pass, &s->failure, &s->lost, &s->settings, &s->configure, &s->save, &s->resume, &s->stop, &s->describe};
    size_t i;
    if (s->cx) {
        for (i = 0; i < sizeof values / sizeof *values; i++) JS_FreeValue(s->cx, *values[i]);
        for (i = 0; i < s->count; i++) JS_FreeValue(s->cx, s->fns[i].fn);
        JS_FreeContext(s->cx);
    }
    if (s->rt) JS_FreeRuntime(s->rt);
    free(s);
}

/* Evaluates a module to its end. Returns its namespace, or JS_EXCEPTION with what was replied in *status. */
static JSValue evaluated(script *s, ferrule_call *call, const char *source, size_t len, const char *name, int32_t *status) {
    JSContext *cx = s->cx;
    JSValue v = JS_Eval(cx, source, len, name, JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY), done;
    JSModuleDef *m;
    if (JS_IsException(v)) {
        *status = fail(s, call, JS_GetException(cx));
        return JS_EXCEPTION;
    }
    m = JS_VALUE_GET_PTR(v);
    done = JS_EvalFunction(cx, v);
    if (JS_IsException(done)) {
        *status = fail(s, call, JS_GetException(cx));
        return JS_EXCEPTION;
    }
    JS_PromiseMarkAsHandled(cx, done);
    *status = settle(s, call);
    if (*status == FERRULE_OK && JS_PromiseState(cx, done) == JS_PROMISE_REJECTED)
        *status = fail(s, call, JS_PromiseResult(cx, done));
    else if (*status == FERRULE_OK && JS_PromiseState(cx, done) == JS_PROMISE_PENDING) {
        ferrule_replyf(call, "%s waits at its top level for a promise that never settles: nothing is left that could run", name);
        *status = FERRULE_FAILED;
    }
    JS_FreeValue(cx, done);
    return *status == FERRULE_OK ? JS_GetModuleNamespace(cx, m) : JS_EXCEPTION;
}

/* What a module exports by a name, where it is a function. */
static JSValue exported(JSContext *cx, JSValueConst module, const char *name, size_t len) {
    JSAtom atom = JS_NewAtomLen(cx, name, len);
    JSValue v = JS_GetProperty(cx, module, atom);
    JS_FreeAtom(cx, atom);
    if (JS_IsFunction(cx, v)) return v;
    JS_FreeValue(cx, v);
    return JS_UNDEFINED;
}

static int32_t start(script *s, ferrule_call *call, text *parts) {
    JSContext *cx = s->cx;
    ferrule_buffer name = FERRULE_BUFFER_INIT, source = FERRULE_BUFFER_INIT, lib = FERRULE_BUFFER_INIT;
    JSValue names, global, module = JS_EXCEPTION;
    int32_t status = FERRULE_NO_MEMORY;
    const char *at = (const char *)parts[3].at, *end = at + parts[3].len;

    s->settings = JS_NewArrayBufferCopy(cx, parts[5].at, parts[5].len);
    global = JS_GetGlobalObject(cx);
    names = JS_NewStringLen(cx, (const char *)parts[4].at, parts[4].len);
    JS_SetPropertyStr(cx, global, "ferrule:names", names); /* which the module takes away */
    JS_FreeValue(cx, global);
    if (ferrule_buffer_append(&lib, parts[0].at, parts[0].len) == FERRULE_OK &&
        ferrule_buffer_append(&name, parts[1].at, parts[1].len) == FERRULE_OK &&
        ferrule_buffer_append(&source, parts[2].at, parts[2].len) == FERRULE_OK) {
        module = evaluated(s, call, ferrule_buffer_text(&lib), lib.len, MODULE, &status);
        if (!JS_IsException(module)) {
            JS_FreeValue(cx, module);
            module = evaluated(s, call, ferrule_buffer_text(&source), source.len, ferrule_buffer_text(&name), &status);
        }
    }
    while (status == FERRULE_OK && at < end) { /* package script gives MOST functions at the most */
        const char *line = memchr(at, '\n', (size_t)(end - at)), *stop = line ? line : end;
        JSValue fn = exported(cx, module, at + 1, (size_t)(stop - at - 1));
        if (*at == 's') {
            *(at[1] == 'c' ? &s->configure : at[1] == 'r' ? &s->resume : at[2] == 'a' ? &s->save : &s->stop) = fn;
        } else {
            s->fns[s->count].kind = *at;
            s->fns[s->count++].fn = fn;
        }
        if (JS_IsUndefined(fn)) {
            ferrule_replyf(call, "%s: its header names %.*s, expected that it exports such a function", ferrule_buffer_text(&name), (int)(stop - at - 1), at + 1);
            status = FERRULE_FAILED;
        }
        at = line ? line + 1 : end;
    }
    JS_FreeValue(cx, module);
    ferrule_buffer_free(&lib);
    ferrule_buffer_free(&name);
    ferrule_buffer_free(&source);
    return status;
}

FERRULE_START {
    script *s;
    text parts[PARTS];
    int32_t status;
    if (!take_all(call, parts)) return ferrule_fail(call, FERRULE_INVALID, "expected seven texts, as package script gives them");
    s = calloc(1, sizeof *s);
    if (!s) return FERRULE_NO_MEMORY;
    s->pass = s->failure = s->lost = s->settings = s->configure = s->save = s->resume = s->stop = s->describe = JS_UNDEFINED;
    s->rt = JS_NewRuntime();
    if (s->rt) JS_SetMemoryLimit(s->rt, (size_t)strtoull((const char *)parts[6].at, NULL, 10)); /* a NUL is behind it */
    s->cx = s->rt ? JS_NewContext(s->rt) : NULL;
    if (!s->cx) {
        drop(s);
        return FERRULE_NO_MEMORY;
    }
    JS_SetContextOpaque(s->cx, s);
    JS_SetInterruptHandler(s->rt, interrupted, s);
    JS_SetHostPromiseRejectionTracker(s->rt, rejection, s);
    JS_SetModuleLoaderFunc(s->rt, normalize, load, NULL);
    enter(s, call);
    status = start(s, call, parts);
    s->call = NULL;
    if (status == FERRULE_OK)
        call->state = s;
    else
        drop(s);
    return status;
}

FERRULE_STOP {
    script *s = FERRULE_STATE(call, script);
    int32_t status = FERRULE_OK;
    enter(s, call);
    if (!JS_IsUndefined(s->stop)) status = run(s, call, s->stop, JS_UNDEFINED);
    drop(s);
    return status;
}

FERRULE_CONFIGURE {
    script *s = FERRULE_STATE(call, script);
    JSValue old = s->settings;
    ferrule_call *outer;
    int32_t status = FERRULE_UNSUPPORTED;
    text parts[PARTS];
    if (!take_all(call, parts)) return ferrule_fail(call, FERRULE_INVALID, "expected seven texts, as package script gives them");
    outer = enter(s, call);
    s->settings = JS_NewArrayBufferCopy(s->cx, parts[5].at, parts[5].len);
    if (JS_IsException(s->settings)) {
        JS_FreeValue(s->cx, JS_GetException(s->cx));
        status = FERRULE_NO_MEMORY;
    } else if (!JS_IsUndefined(s->configure)) {
        status = run(s, call, s->configure, JS_UNDEFINED);
    }
    if (status == FERRULE_OK) {
        JS_FreeValue(s->cx, old);
    } else {
        JS_FreeValue(s->cx, s->settings);
        s->settings = old;
    }
    s->call = outer;
    return status;
}

FERRULE_SAVE {
    script *s = FERRULE_STATE(call, script);
    ferrule_call *outer;
    int32_t status = FERRULE_UNSUPPORTED;
    outer = enter(s, call);
    if (!JS_IsUndefined(s->save)) status = run(s, call, s->save, JS_UNDEFINED);
    s->call = outer;
    return status;
}

FERRULE_RESUME {
    script *s = FERRULE_STATE(call, script);
    ferrule_call *outer;
    int32_t status = FERRULE_UNSUPPORTED;
    outer = enter(s, call);
    if (!JS_IsUndefined(s->resume)) status = run(s, call, s->resume, input(s->cx, 'b', call));
    s->call = outer;
    return status;
}
