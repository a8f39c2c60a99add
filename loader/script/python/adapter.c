/* Python as a plug-in: the system's libpython, one interpreter in a process, of which each instance has a module of its own. Package script opens
 * it, and says to its host what the script's header says. SPDX-License-Identifier: MIT
 *
 * ferrule_start gets texts, as javascript/adapter.c does: the module `ferrule` in Python, the script's path, the script, its functions, the names of
 * its host functions, its settings, a memory limit that is not used, and the python of a virtual environment, or nothing. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#include <ferrule/sdk.h>

/* The interpreter that belongs to the library; build.sh says where it is. */
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define VERSION "python" TEXT(PY_MAJOR_VERSION) "." TEXT(PY_MINOR_VERSION)
#define PYTHON PREFIX "/bin/" VERSION

/* What a sandbox has to let Python read, of which a system has some: its own modules, without which it does not start, and Debian's folders of packages. */
FERRULE_PLUGIN(FERRULE_NAME("ferrule-python") FERRULE_VERSION("1.0.0") FERRULE_DESCRIPTION("Runs plug-ins in Python.")
                   FERRULE_STATE_FORMAT("script") FERRULE_KEY("permit.read", PREFIX "/lib/" VERSION "\n" PREFIX "/lib64/" VERSION "\n" PREFIX "/lib/python" TEXT(PY_MAJOR_VERSION) "\n" PREFIX
                                                             "/local/lib/" VERSION));

#define MOST 64 /* functions with hooks, and host functions */
#define PARTS 8

/* Expands one(d, u) for each d and u of 00 to 63. */
#define TEN_(one, d)                                                                                                   \
    one(d, 0) one(d, 1) one(d, 2) one(d, 3) one(d, 4) one(d, 5) one(d, 6) one(d, 7) one(d, 8) one(d, 9)
#define ALL_(one)                                                                                                      \
    TEN_(one, 0) TEN_(one, 1) TEN_(one, 2) TEN_(one, 3) TEN_(one, 4) TEN_(one, 5)                                      \
    one(6, 0) one(6, 1) one(6, 2) one(6, 3)

#define WANT_(d, u) FERRULE_WANT(w##d##u);
ALL_(WANT_)
FERRULE_WANT(x);

/* What this thread does: which call, and of which instance. A thread of the script's own has none, and its calls of the host fail. */
typedef struct running {
    ferrule_call *call;
    PyObject *script; /* borrowed from the instance */
    struct running *outer;
    unsigned forks;
    /* For the watcher, under its lock: the calls in progress, a list. */
    unsigned long thread;
    struct running *next, **at;
    int covered; /* by a call that came from it, on the same thread */
    unsigned told; /* at which tick the last time; 0 is never */
} running;

static __thread running *current;

/* How many forks this process is from the one that has started Python. */
static unsigned forks;

static void forked(void) { forks++; }

/* ---- A thread's state: made once for each thread, since making it takes ten times as long as a call. ---- */

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static PyInterpreterState *interpreter;

static void leave_thread(void *p) {
    PyThreadState *ts = p;
    PyEval_RestoreThread(ts);
    PyThreadState_Clear(ts);
    PyThreadState_DeleteCurrent();
}

static void make_key(void) {
    pthread_key_create(&key, leave_thread);
    pthread_atfork(NULL, NULL, forked);
}

/* Takes the GIL. 0 without memory for this thread's state. */
static int acquire(void) {
    PyThreadState *ts = PyGILState_GetThisThreadState();
    if (!ts) {
        ts = PyThreadState_New(interpreter);
        if (!ts) return 0;
        pthread_setspecific(key, ts);
    }
    PyEval_RestoreThread(ts);
    return 1;
}

static void release(void) { PyEval_SaveThread(); }

/* ---- The watcher: has what is not wanted any more raise Cancelled where it is, and again a second later where that was caught ---- */

#define AGAIN 200 /* ticks */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static running *watched;
static int watching;
static PyObject *cancelled_type;

/* Whether a call is to be told. A call that others came from is told when they are done: what it raised now would end in them. */
static int due(running *r, unsigned tick) {
    return !r->covered && (!r->told || tick - r->told >= AGAIN) && ferrule_cancelled(r->call);
}

static void *watch(void *unused) {
    struct timespec pause = {0, 5000000};
    unsigned tick = 0;
    (void)unused;
    for (;;) {
        unsigned long threads[64];
        size_t n = 0, i;
        running *r;
        if (!++tick) tick = 1;
        pthread_mutex_lock(&lock);
        while (!watched) pthread_cond_wait(&some, &lock);
        for (r = watched; r && n < 64; r = r->next)
            if (due(r, tick)) threads[n++] = r->thread;
        pthread_mutex_unlock(&lock);
        if (n) {
            PyGILState_STATE g = PyGILState_Ensure();
            for (i = 0; i < n; i++) {
                int there = 0;
                pthread_mutex_lock(&lock); /* it may have come back since then */
                for (r = watched; r; r = r->next)
                    if (r->thread == threads[i] && due(r, tick)) {
                        there = 1;
                        r->told = tick;
                    }
                pthread_mutex_unlock(&lock);
                if (there) PyThreadState_SetAsyncExc(threads[i], cancelled_type);
            }
            PyGILState_Release(g);
        }
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* The GIL is held. */
static void enter(running *r, ferrule_call *call, PyObject *script) {
    memset(r, 0, sizeof *r);
    r->call = call;
    r->script = script;
    r->outer = current;
    r->forks = forks;
    current = r;
    if (!FERRULE_HAS(call, cancel) || !call->cancel) return;
    r->thread = PyThread_get_thread_ident();
    pthread_mutex_lock(&lock);
    if (r->outer) {
        r->outer->covered = 1;
        if (r->outer->told) PyThreadState_SetAsyncExc(r->thread, NULL); /* it is told again when this one is done */
        r->outer->told = 0;
    }
    r->next = watched;
    r->at = &watched;
    if (watched) watched->at = &r->next;
    watched = r;
    if (!watching) {
        pthread_t t;
        watching = !pthread_create(&t, NULL, watch, NULL);
        if (watching) pthread_detach(t);
    }
    pthread_cond_signal(&some);
    pthread_mutex_unlock(&lock);
}

/* The GIL is held: no exception is on its way to this call any more when it returns. */
static void leave(running *r) {
    /* A process that the script has forked, and that comes back from the script, has nobody to come back to: all that the host knows of is its parent's. */
    if (r->forks != forks) _exit(0);
    if (r->at) {
        pthread_mutex_lock(&lock);
        if (r->outer) r->outer->covered = 0;
        *r->at = r->next;
        if (r->next) r->next->at = r->at;
        pthread_mutex_unlock(&lock);
        if (r->told) PyThreadState_SetAsyncExc(r->thread, NULL);
    }
    current = r->outer;
}

/* ---- The module _ferrule ---- */

static ferrule_call *here(void) {
    if (current && current->forks != forks) {
        PyErr_SetString(PyExc_RuntimeError, "found a process that the script has forked, expected the one that the host has called");
        return NULL;
    }
    if (current) return current->call;
    PyErr_SetString(PyExc_RuntimeError, "found a thread of the script's own, expected the one that the host has called");
    return NULL;
}

#if PY_VERSION_HEX < 0x030A0000
static PyObject *newer_reference(PyObject *o) {
    Py_XINCREF(o);
    return o;
}
#define Py_NewRef newer_reference
#define Py_XNewRef newer_reference
static int PyModule_AddObjectRef(PyObject *m, const char *name, PyObject *o) {
    Py_INCREF(o);
    if (!PyModule_AddObject(m, name, o)) return 0;
    Py_DECREF(o);
    return -1;
}
#endif

/* What the module `ferrule` has, for the conversions that are not made here. */
static PyObject *to_bytes; /* _to_bytes(value): bytes, or bytes-like */
static PyObject *loads;    /* _loads(str) */
static PyObject *dumps;    /* _dumps(value): str */
static PyObject *failed;   /* _failed(name, status, bytes): raises */
static PyObject *passed;   /* PASSED */

/* JSON in UTF-8, with a mark of its bytes' order or without. */
static PyObject *from_json(const uint8_t *at, size_t len) {
    PyObject *text, *value;
    if (len >= 3 && !memcmp(at, "\xef\xbb\xbf", 3)) at += 3, len -= 3;
    text = PyUnicode_DecodeUTF8((const char *)at, (Py_ssize_t)len, NULL);
    if (!text) return NULL;
    value = PyObject_CallFunctionObjArgs(loads, text, NULL);
    Py_DECREF(text);
    return value;
}

/* A function of the host, or next: name(value) returns a str, name.json(value) what JSON has, name.bytes(value) bytes. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *name;
    uint32_t ordinal;
    int next;
} host_function;

/* form: t for a text, j for JSON, b for bytes */
static PyObject *ask(host_function *f, char form, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    ferrule_call *call = here();
    PyObject *value = n ? args[0] : Py_None, *made = NULL, *out;
    Py_buffer view;
    const char *in = "";
    const uint8_t *bytes;
    Py_ssize_t len = 0;
    int32_t status;
    if (!call) return NULL;
    if (names && PyTuple_GET_SIZE(names)) {
        if (n || PyTuple_GET_SIZE(names) > 1 || PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "value"))
            return PyErr_Format(PyExc_TypeError, "%U: found a parameter by another name, expected value", f->name);
        value = args[0];
    }
    if (n > 1) return PyErr_Format(PyExc_TypeError, "%U: found %zd values, expected one, or none", f->name, n);
    view.obj = NULL;
    if (PyUnicode_CheckExact(value)) {
        in = PyUnicode_AsUTF8AndSize(value, &len);
        if (!in) return NULL;
    } else if (value != Py_None) {
        made = PyBytes_CheckExact(value) ? Py_NewRef(value) : PyObject_CallFunctionObjArgs(to_bytes, value, NULL);
        if (!made || PyObject_GetBuffer(made, &view, PyBUF_SIMPLE)) {
            Py_XDECREF(made);
            return NULL;
        }
        in = view.buf;
        len = view.len;
    }
    Py_INCREF(value); /* whoever has it may drop it meanwhile */
    Py_BEGIN_ALLOW_THREADS
    status = f->next ? ferrule_next(call, (const uint8_t *)in, (size_t)len, &result) : ferrule_import(call, f->ordinal, (const uint8_t *)in, (size_t)len, &result);
    Py_END_ALLOW_THREADS
    if (view.obj) PyBuffer_Release(&view);
    Py_XDECREF(made);
    Py_DECREF(value);
    bytes = result.data ? result.data : (const uint8_t *)"";
    if (status == FERRULE_PASS) {
        out = Py_NewRef(passed);
    } else if (status != FERRULE_OK) {
        out = PyObject_CallFunction(failed, "Oiy#", f->name, (int)status, (const char *)bytes, (Py_ssize_t)result.len);
    } else if (form == 't') {
        out = PyUnicode_DecodeUTF8((const char *)bytes, (Py_ssize_t)result.len, NULL);
    } else if (form == 'b') {
        out = PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)result.len);
    } else {
        out = result.len ? from_json(bytes, result.len) : Py_NewRef(Py_None);
    }
    ferrule_buffer_free(&result);
    return out;
}

static PyObject *ask_text(PyObject *self, PyObject *const *args, size_t n, PyObject *names) {
    return ask((host_function *)self, 't', args, PyVectorcall_NARGS(n), names);
}

static PyObject *ask_json(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    return ask((host_function *)self, 'j', args, n, names);
}

static PyObject *ask_bytes(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    return ask((host_function *)self, 'b', args, n, names);
}

/* Call(ordinal, name); an ordinal below 0 is next */
static PyObject *new_host_function(PyTypeObject *type, PyObject *args, PyObject *names) {
    host_function *f;
    PyObject *name;
    int ordinal;
    (void)names;
    if (!PyArg_ParseTuple(args, "iU", &ordinal, &name)) return NULL;
    f = (host_function *)type->tp_alloc(type, 0);
    if (!f) return NULL;
    f->vectorcall = ask_text;
    f->name = Py_NewRef(name);
    f->ordinal = (uint32_t)ordinal;
    f->next = ordinal < 0;
    return (PyObject *)f;
}

static void free_host_function(PyObject *self) {
    Py_XDECREF(((host_function *)self)->name);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef forms[] = {{"json", (PyCFunction)(void (*)(void))ask_json, METH_FASTCALL | METH_KEYWORDS, NULL},
                              {"bytes", (PyCFunction)(void (*)(void))ask_bytes, METH_FASTCALL | METH_KEYWORDS, NULL},
                              {NULL, NULL, 0, NULL}};
static PyTypeObject host_function_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ferrule.Call",
    .tp_doc = "A host function: name(input) returns a str, name.json(input) what JSON has, name.bytes(input) bytes.",
    .tp_basicsize = sizeof(host_function),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(host_function, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = new_host_function,
    .tp_dealloc = free_host_function,
    .tp_methods = forms,
};

static PyObject *host_info(PyObject *self, PyObject *args) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    ferrule_call *call = here();
    const char *name;
    PyObject *found;
    int32_t status;
    (void)self;
    if (!call || !PyArg_ParseTuple(args, "s", &name)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ferrule_info(call, name, &result);
    Py_END_ALLOW_THREADS
    if (status == FERRULE_OK) {
        found = PyUnicode_DecodeUTF8(result.data ? (char *)result.data : "", (Py_ssize_t)result.len, "replace");
    } else {
        found = Py_None;
        Py_INCREF(found);
    }
    ferrule_buffer_free(&result);
    return found;
}

static PyObject *host_log(PyObject *self, PyObject *args) {
    unsigned int level;
    const char *line, *fields;
    Py_ssize_t len, fields_len;
    ferrule_call *call = current && current->forks == forks ? current->call : NULL; /* a line of another thread, or process, is lost */
    (void)self;
    if (!PyArg_ParseTuple(args, "Is#s#", &level, &line, &len, &fields, &fields_len)) return NULL;
    if (call) {
        Py_BEGIN_ALLOW_THREADS
        ferrule_log_fields_(call, level, line, (size_t)len, fields, (size_t)fields_len);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *host_read(PyObject *self, PyObject *args) {
    const uint8_t *piece = NULL;
    size_t len = 0;
    int32_t status;
    ferrule_call *call = here();
    (void)self, (void)args;
    if (!call) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ferrule_read(call, &piece, &len);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("(iy#)", (int)status, piece && status == FERRULE_OK ? (const char *)piece : "", (Py_ssize_t)(status == FERRULE_OK ? len : 0));
}

static PyObject *host_write(PyObject *self, PyObject *args) {
    Py_buffer in;
    int32_t status;
    ferrule_call *call = here();
    (void)self;
    if (!call || !PyArg_ParseTuple(args, "y*", &in)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    status = ferrule_write(call, in.buf, (size_t)in.len);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&in);
    return PyLong_FromLong(status);
}

static PyObject *host_progress(PyObject *self, PyObject *args) {
    unsigned long long done, total;
    (void)self;
    if (!PyArg_ParseTuple(args, "KK", &done, &total)) return NULL;
    if (current && current->forks == forks) ferrule_set_progress(current->call, done, total);
    Py_RETURN_NONE;
}

static PyObject *host_cancelled(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    return PyBool_FromLong(current && ferrule_cancelled(current->call));
}

static PyObject *host_script(PyObject *self, PyObject *args) {
    PyObject *script = current && current->script ? current->script : Py_None;
    (void)self, (void)args;
    Py_INCREF(script);
    return script;
}

/* starting(script): the instance whose script runs at its top level */
static PyObject *host_starting(PyObject *self, PyObject *script) {
    (void)self;
    if (current) current->script = script;
    Py_RETURN_NONE;
}

/* A line was begun on this thread, and is to be shown when the call is over. */
static __thread int printed;

static PyObject *host_printed(PyObject *self, PyObject *args) {
    (void)self, (void)args;
    printed = 1;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"printed", host_printed, METH_NOARGS, NULL},
                                {"info", host_info, METH_VARARGS, NULL},          {"log", host_log, METH_VARARGS, NULL},
                                {"read", host_read, METH_NOARGS, NULL},           {"write", host_write, METH_VARARGS, NULL},
                                {"progress", host_progress, METH_VARARGS, NULL},  {"cancelled", host_cancelled, METH_NOARGS, NULL},
                                {"script", host_script, METH_NOARGS, NULL},       {"starting", host_starting, METH_O, NULL},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_ferrule", NULL, -1, methods, NULL, NULL, NULL, NULL};
static PyObject *init_module(void) {
    PyObject *m = PyType_Ready(&host_function_type) ? NULL : PyModule_Create(&definition);
    if (m && PyModule_AddObjectRef(m, "Call", (PyObject *)&host_function_type)) Py_CLEAR(m);
    return m;
}

/* ---- An instance ---- */

typedef struct {
    PyObject *script, *calls; /* of class _Script, and its list */
    PyObject *entries;        /* of each function: kind, function, and what makes the input of kind m */
} instance;

static PyObject *outcome; /* _outcome of the module ferrule */
static PyObject *class;   /* _Script */
static PyObject *raises;  /* _raises(exception) */
static PyObject *returns; /* _returns(value) */
/* The dict of sys, two of its names, and what they are by themselves. */
static PyObject *sys, *out_name, *err_name, *shown_out, *shown_err;

/* Replies with the exception that came out of the module ferrule itself: Cancelled may come up anywhere, and a script may have replaced what the module needs. */
static int32_t lost(ferrule_call *call) {
    PyObject *type, *value, *trace = NULL, *text = NULL;
    const char *said = NULL;
    int32_t status;
    if (PyErr_ExceptionMatches(cancelled_type)) {
        PyErr_Clear();
        return FERRULE_CANCELLED;
    }
    status = PyErr_ExceptionMatches(PyExc_MemoryError) ? FERRULE_NO_MEMORY : FERRULE_FAILED;
#if PY_VERSION_HEX >= 0x030C0000
    value = PyErr_GetRaisedException();
    type = value ? (PyObject *)Py_TYPE(value) : NULL;
    Py_XINCREF(type);
#else
    PyErr_Fetch(&type, &value, &trace);
#endif
    if (value) text = PyObject_Str(value);
    if (text) said = PyUnicode_AsUTF8(text);
    PyErr_Clear();
    status = ferrule_fail(call, status, "the script failed, and its exception cannot be shown: %s: %s", type ? ((PyTypeObject *)type)->tp_name : "no exception",
                          said ? said : "it has no text");
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    PyErr_Clear();
    return status;
}

/* Replies with (status, bytes), which it takes; NULL is an exception. */
static int32_t reply(ferrule_call *call, PyObject *pair) {
    int status = FERRULE_FAILED;
    const char *bytes;
    Py_ssize_t len;
    if (!pair || !PyArg_ParseTuple(pair, "iy#", &status, &bytes, &len)) {
        status = lost(call);
    } else if (status == FERRULE_PASS) {
        status = ferrule_pass(call);
    } else {
        int32_t replied = ferrule_reply(call, bytes, (size_t)len);
        if (replied != FERRULE_OK) status = replied;
    }
    Py_XDECREF(pair);
    return status;
}

/* The exception that is on its way, with its traceback, which is not on its way any more. */
static PyObject *caught(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace) PyException_SetTraceback(value, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
#endif
}

/* Calls function i, and replies where that takes nothing of the module ferrule. 1 when it has; 0 when outcome is to do it: from the start, or, where *run is not NULL, with *with. */
static int quick(instance *s, size_t i, ferrule_call *call, int32_t *status, PyObject **run, PyObject **with) {
    PyObject *entry = PyTuple_GET_ITEM(s->entries, (Py_ssize_t)i), *fn = PyTuple_GET_ITEM(entry, 1), *in = NULL, *out, *text = NULL;
    const char *bytes = (const char *)call->in;
    Py_ssize_t len = (Py_ssize_t)call->in_len;
    switch (PyUnicode_READ_CHAR(PyTuple_GET_ITEM(entry, 0), 0)) {
    case 't': in = PyUnicode_DecodeUTF8(bytes, len, NULL); break;
    case 'b': in = PyBytes_FromStringAndSize(bytes, len); break;
    case 'j': in = from_json(call->in, call->in_len); break;
    case 'm':
        in = PyBytes_FromStringAndSize(bytes, len);
        if (in) {
            out = PyObject_CallFunctionObjArgs(PyTuple_GET_ITEM(entry, 2), in, NULL);
            Py_DECREF(in);
            in = out;
        }
        break;
    default: in = Py_NewRef(Py_None); break; /* n: it takes none */
    }
    if (!in) {
        *with = caught();
        if (!PyErr_GivenExceptionMatches(*with, PyExc_ValueError) && !PyErr_GivenExceptionMatches(*with, PyExc_TypeError)) {
            *run = raises;
            return 0;
        }
        Py_CLEAR(*with); /* it happens again, and is told as invalid */
        return 0;
    }
    out = PyUnicode_READ_CHAR(PyTuple_GET_ITEM(entry, 0), 0) == 'n' ? PyObject_CallNoArgs(fn) : PyObject_CallOneArg(fn, in);
    Py_DECREF(in);
    if (!out) {
        *run = raises;
        *with = caught();
        return 0;
    }
    *run = returns;
    *with = out;
    if (printed || PyDict_GetItemWithError(sys, out_name) != shown_out || PyDict_GetItemWithError(sys, err_name) != shown_err) return 0;
    if (PyDict_CheckExact(out) || PyList_CheckExact(out)) {
        text = PyObject_CallOneArg(dumps, out);
        if (!text) {
            Py_DECREF(out);
            *run = raises;
            *with = caught();
            return 0;
        }
        Py_DECREF(out);
        *with = out = text;
    }
    if (out == Py_None) {
        len = 0;
    } else if (PyUnicode_CheckExact(out)) {
        bytes = PyUnicode_AsUTF8AndSize(out, &len);
        if (!bytes) {
            PyErr_Clear(); /* it happens again */
            return 0;
        }
    } else if (PyBytes_CheckExact(out)) {
        bytes = PyBytes_AS_STRING(out);
        len = PyBytes_GET_SIZE(out);
    } else {
        return 0;
    }
    *status = ferrule_reply(call, bytes, (size_t)len);
    Py_CLEAR(*with);
    return 1;
}

static int32_t invoke(ferrule_call *call, size_t i) {
    instance *s = FERRULE_STATE(call, instance);
    running r;
    int32_t status;
    PyObject *in = NULL, *bound = NULL, *args = NULL, *run = NULL, *with = NULL;
    if (!acquire()) return FERRULE_NO_MEMORY;
    if (i >= (size_t)PyList_GET_SIZE(s->calls)) {
        release();
        return FERRULE_UNSUPPORTED;
    }
    enter(&r, call, s->script);
    if (quick(s, i, call, &status, &run, &with)) {
        leave(&r);
        release();
        return status;
    }
    in = run ? NULL : PyBytes_FromStringAndSize((const char *)call->in, (Py_ssize_t)call->in_len);
    if (run ? with != NULL : in != NULL) args = PyTuple_Pack(2, run ? run : PyList_GET_ITEM(s->calls, (Py_ssize_t)i), run ? with : in);
    bound = args ? PyObject_CallObject(outcome, args) : NULL;
    printed = 0;
    leave(&r);
    status = reply(call, bound);
    Py_XDECREF(args);
    Py_XDECREF(with);
    Py_XDECREF(in);
    release();
    return status;
}

#define INVOKE_(d, u)                                                                                                  \
    FERRULE_FN(f##d##u) { return invoke(call, (d) * 10 + (u)); }
ALL_(INVOKE_)

typedef struct {
    const uint8_t *at;
    size_t len;
} text;

static int take_all(ferrule_call *call, text *parts) {
    const uint8_t *at = call->in;
    size_t left = call->in_len, i, n;
    for (i = 0; i < PARTS; i++) {
        if (left < 4) return 0;
        n = (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
        at += 4;
        left -= 4;
        if (n > left) return 0;
        parts[i].at = at;
        parts[i].len = n;
        at += n;
        left -= n;
    }
    return 1;
}

static int32_t begin(ferrule_call *call, const text *parts) {
    PyConfig config;
    PyStatus status;
    Dl_info library;
    /* The symbols of libpython are for modules that Python loads: not the loader's local ones. */
    if (dladdr((void *)(uintptr_t)Py_InitializeFromConfig, &library)) (void)dlopen(library.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
#if defined(__APPLE__) /* elsewhere it is linked so */
    if (dladdr((void *)(uintptr_t)watch, &library)) (void)dlopen(library.dli_fname, RTLD_NOW | RTLD_NOLOAD);
#endif
    PyImport_AppendInittab("_ferrule", init_module);
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 0;
    config.write_bytecode = 0; /* the folders of scripts stay as they are */
    {
        /* By its interpreter Python finds its library: without one it looks along PATH, which may be missing, or have another. */
        char *path = parts[7].len ? strndup((const char *)parts[7].at, parts[7].len) : strdup(PYTHON);
        status = PyConfig_SetBytesString(&config, &config.executable, path ? path : "");
        free(path);
        if (PyStatus_Exception(status)) goto failed;
    }
    status = Py_InitializeFromConfig(&config);
    if (PyStatus_Exception(status)) goto failed;
    PyConfig_Clear(&config);
    interpreter = PyInterpreterState_Get();
    pthread_once(&once, make_key);
    return FERRULE_OK;
failed:
    PyConfig_Clear(&config);
    return ferrule_fail(call, FERRULE_FAILED, "Python cannot be started: %s. Its library is in %s/lib: in a sandbox, permit it what script.PythonReads returns",
                        status.err_msg ? status.err_msg : "no memory", PREFIX);
}

/* The module ferrule, made of its text once in a process. */
static int32_t module(ferrule_call *call, const text *source) {
    PyObject *m, *d, *code = NULL, *done = NULL;
    char *copy = strndup((const char *)source->at, source->len);
    if (outcome) {
        free(copy);
        return FERRULE_OK;
    }
    m = PyImport_AddModule("ferrule"); /* borrowed */
    d = m ? PyModule_GetDict(m) : NULL;
    if (copy && d && !PyDict_SetItemString(d, "__builtins__", PyEval_GetBuiltins())) code = Py_CompileString(copy, "<ferrule>", Py_file_input);
    if (code) done = PyEval_EvalCode(code, d, d);
    free(copy);
    Py_XDECREF(code);
    if (done) {
        outcome = PyObject_GetAttrString(m, "_outcome");
        class = PyObject_GetAttrString(m, "_Script");
        cancelled_type = PyObject_GetAttrString(m, "Cancelled");
        to_bytes = PyObject_GetAttrString(m, "_to_bytes");
        loads = PyObject_GetAttrString(m, "_loads");
        dumps = PyObject_GetAttrString(m, "_dumps");
        failed = PyObject_GetAttrString(m, "_failed");
        passed = PyObject_GetAttrString(m, "PASSED");
        raises = PyObject_GetAttrString(m, "_raises");
        returns = PyObject_GetAttrString(m, "_returns");
        sys = PyImport_ImportModule("sys");
        if (sys) sys = PyModule_GetDict(sys); /* the module stays */
        out_name = PyUnicode_InternFromString("stdout");
        err_name = PyUnicode_InternFromString("stderr");
        if (sys && out_name && err_name) {
            shown_out = Py_XNewRef(PyDict_GetItemWithError(sys, out_name));
            shown_err = Py_XNewRef(PyDict_GetItemWithError(sys, err_name));
        }
    }
    Py_XDECREF(done);
    if (outcome && class && cancelled_type && to_bytes && loads && dumps && failed && passed && raises && returns && shown_out && shown_err) return FERRULE_OK;
    PyErr_Print();
    return ferrule_fail(call, FERRULE_FAILED, "the module ferrule cannot be made");
}

static PyObject *lines(const text *t) {
    PyObject *s = PyUnicode_FromStringAndSize((const char *)t->at, (Py_ssize_t)t->len), *list;
    if (!s) return NULL;
    list = PyUnicode_Splitlines(s, 0);
    Py_DECREF(s);
    return list;
}

static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static char *environment; /* the python of the virtual environment that the interpreter was started with, or "" */

/* An interpreter has the packages of one virtual environment. */
static int32_t same(ferrule_call *call, const text *wanted) {
    if (!wanted->len || (environment && strlen(environment) == wanted->len && !memcmp(environment, wanted->at, wanted->len))) return FERRULE_OK;
    return ferrule_fail(call, FERRULE_FAILED, "found Python started with %s in this process, expected %.*s: open the script isolated, or all with one virtual environment",
                        environment && *environment ? environment : "no virtual environment", (int)wanted->len, (const char *)wanted->at);
}

FERRULE_START {
    text parts[PARTS];
    instance *s;
    running r;
    int32_t status = FERRULE_OK;
    int first;
    PyObject *partial = NULL, *args = NULL, *functions, *names, *pair = NULL;
    if (!take_all(call, parts)) return ferrule_fail(call, FERRULE_INVALID, "expected eight texts, as package script gives them");
    s = calloc(1, sizeof *s);
    if (!s) return FERRULE_NO_MEMORY;
    pthread_mutex_lock(&starting);
    first = !Py_IsInitialized();
    if (first) {
        status = begin(call, parts);
    } else {
        if (!interpreter) { /* another embedder's, in this process */
            pthread_mutex_unlock(&starting);
            free(s);
            return ferrule_fail(call, FERRULE_FAILED, "this process has a Python of somebody else's: open the script isolated");
        }
        status = same(call, &parts[7]);
        if (status == FERRULE_OK && !acquire()) status = FERRULE_NO_MEMORY;
    }
    if (status == FERRULE_OK && first) {
        environment = strndup((const char *)parts[7].at, parts[7].len);
        pthread_setspecific(key, PyGILState_GetThisThreadState());
    }
    if (status != FERRULE_OK) {
        pthread_mutex_unlock(&starting);
        free(s);
        return status;
    }
    enter(&r, call, NULL);
    status = module(call, &parts[0]);
    pthread_mutex_unlock(&starting); /* before the script runs, which may have the host open another one */
    if (status == FERRULE_OK) {
        PyObject *holder = PyList_New(0), *make = NULL;
        functions = lines(&parts[3]);
        names = lines(&parts[4]);
        args = functions && names ? Py_BuildValue("(s#s#OOy#O)", parts[1].at, (Py_ssize_t)parts[1].len, parts[2].at, (Py_ssize_t)parts[2].len, functions, names,
                                                  parts[5].at, (Py_ssize_t)parts[5].len, holder)
                                  : NULL;
        make = args ? PyObject_GetAttrString(class, "_begin") : NULL;
        partial = make ? PyObject_CallObject(make, args) : NULL; /* a function without parameters */
        pair = partial ? PyObject_CallFunctionObjArgs(outcome, partial, NULL) : NULL;
        if (holder && PyList_GET_SIZE(holder) == 1) {
            s->script = PyList_GET_ITEM(holder, 0);
            Py_INCREF(s->script);
            s->calls = PyObject_GetAttrString(s->script, "calls");
            s->entries = PyObject_GetAttrString(s->script, "entries");
        }
        status = reply(call, pair);
        if (status == FERRULE_OK && (!s->calls || !s->entries)) status = ferrule_fail(call, FERRULE_FAILED, "the script cannot be started");
        PyErr_Clear();
        Py_XDECREF(functions);
        Py_XDECREF(names);
        Py_XDECREF(args);
        Py_XDECREF(make);
        Py_XDECREF(partial);
        Py_XDECREF(holder);
    }
    leave(&r);
    if (status != FERRULE_OK) {
        Py_XDECREF(s->entries);
        Py_XDECREF(s->calls);
        Py_XDECREF(s->script);
        free(s);
    } else {
        call->state = s;
    }
    release();
    return status;
}

/* Calls service(name, input) of the instance's script. */
static int32_t serve(ferrule_call *call, const char *name, const uint8_t *in, size_t len) {
    instance *s = FERRULE_STATE(call, instance);
    running r;
    PyObject *partial, *pair = NULL;
    int32_t status;
    if (!acquire()) return FERRULE_NO_MEMORY;
    enter(&r, call, s->script);
    partial = PyObject_CallMethod(s->script, "_service", "sy#", name, (const char *)in, (Py_ssize_t)len);
    if (partial) pair = PyObject_CallFunctionObjArgs(outcome, partial, NULL);
    leave(&r);
    status = reply(call, pair);
    Py_XDECREF(partial);
    release();
    return status;
}

FERRULE_STOP {
    instance *s = FERRULE_STATE(call, instance);
    int32_t status = serve(call, "stop", call->in, 0);
    if (acquire()) {
        Py_XDECREF(s->entries);
        Py_XDECREF(s->calls);
        Py_XDECREF(s->script);
        release();
    }
    free(s);
    return status == FERRULE_UNSUPPORTED ? FERRULE_OK : status;
}

FERRULE_CONFIGURE {
    text parts[PARTS];
    if (!take_all(call, parts)) return ferrule_fail(call, FERRULE_INVALID, "expected eight texts, as package script gives them");
    return serve(call, "configure", parts[5].at, parts[5].len);
}

FERRULE_SAVE { return serve(call, "save", call->in, 0); }
FERRULE_RESUME { return serve(call, "resume", call->in, call->in_len); }
