/* A host of the smallest kind, for the tests of the SDK: it opens one plug-in, fills frames, runs its functions and
 * holds what comes back against the rules of ferrule.h. Everything that the plug-in may not touch ends a process:
 * input, room, frame and service table each end at a guard page, and the input is read-only. */
#ifndef HOST_H
#define HOST_H

#include <ferrule.h>

/* What each failed check counts up; the exit status of a test. */
extern int host_failures;

/* Reports a failed check and goes on. */
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) host_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                                    \
    } while (0)
void host_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Opens the plug-in that the only argument names, and sets its import slots. Ends the process with a message when it
 * cannot. */
void host_open(int argc, char **argv);

/* Reports how many checks failed; what main returns. */
int host_close(void);

/* The address of a symbol of the plug-in; ends the process when there is none. */
void *host_symbol(const char *symbol);

/* How a function is run. What is 0 or NULL has the value that the comment names first. */
typedef struct host_run {
    const char *symbol; /* such as ferrule_fn_greet */
    const void *in;     /* in_len bytes */
    size_t in_len;      /* bytes */
    size_t room;        /* out_cap, in bytes */
    size_t frame_size;  /* sizeof(ferrule_call), or the size of an older or a newer host's frame */
    size_t table_size;  /* sizeof(ferrule_host), likewise */
    int cancelled;      /* no: the word is 0; yes: it is 1 */
    int no_cancel_word; /* no: there is a word */
    int no_progress;    /* no: there are two words */
    int no_room;        /* no: host->room has memory */
    void *state;        /* the instance's */
    /* The input stream: pieces of piece_len bytes of `stream`, and a shorter one at the end. NULL: there is none. */
    const char *stream;
    size_t piece_len;      /* bytes, not 0 where there is a stream */
    size_t stream_breaks;  /* 0: not; otherwise reads from this one on, counted from 1, are FERRULE_FAILED */
    int32_t stream_status; /* FERRULE_OK: FERRULE_FAILED; what those reads and writes return instead */
    int sink;              /* no: the call has no output stream */
    size_t sink_takes;     /* 0: all; otherwise how many bytes, after which writes are FERRULE_FAILED */
    int wraps;             /* no: nothing stands behind */
    int background;        /* no: there is no frame for between calls */
} host_run;

/* The sizes of a frame and a table of version 1.0. */
#define FRAME_1_0 offsetof(ferrule_call, progress)
#define TABLE_1_0 offsetof(ferrule_host, log_fields)

/* What a function did. */
typedef struct host_result {
    int32_t status;
    char *out;      /* a copy of the result or message with a NUL behind it; free() it */
    size_t len;     /* bytes of it */
    int released;   /* how many times release was called: once or not at all */
    void *state;    /* call->state when the function returned */
    const void *at; /* where `out` pointed when the function returned; for comparison only */
    uint64_t done;  /* the progress words */
    uint64_t total;
} host_result;

/* Runs a function, checks R6 and R8, and calls release as R9 has it. */
host_result host_call(const host_run *run);

/* What the host's services saw since host_forget. */
typedef struct host_seen {
    unsigned runs;       /* of host functions: a fetch of a kept result is none */
    unsigned fetches;    /* of kept results */
    unsigned lines;      /* of the log */
    uint32_t levels[16]; /* of the first lines, with the first byte of each */
    char firsts[16];
    uint32_t level;  /* of the last line */
    char line[2048]; /* the last line */
    char fields[2048]; /* the last line's, `;` for each NUL */
    unsigned rooms;    /* given */
    unsigned infos;    /* asked for: a fetch is none */
    char written[8192]; /* to the output stream, with a NUL behind */
    size_t written_len;
} host_seen;
extern host_seen seen;
void host_forget(void);

/* Waits until the log has had so many lines, from another thread by the frame for between calls. */
void host_wait_lines(unsigned count);

/* Sets the cancellation word of the frame for between calls, as a host does before ferrule_stop, or takes it back. */
void host_end_background(int ended);

/* ---- Checks over many runs ------------------------------------------------------------------------------------- */

/* A plug-in under test counts its memory: how many blocks are live, and how many allocations may succeed from now on,
 * less than 0 for all. */
extern long (*live_blocks)(void);
extern void (*allow_allocations)(long count);

/* The message that the plug-in under test sends along with FERRULE_NO_MEMORY; "" at first. */
extern const char *no_memory_message;

/* A usual run. */
host_run running(const char *symbol, const char *in, size_t room);

int host_same(const host_result *r, int32_t status, const char *out, size_t out_len);

/* One run: the status, the output, and that no memory is left behind. */
void check_run(host_run run, int32_t status, const char *out);

/* The same run with more and more allocations allowed: what comes back is the whole result, FERRULE_NO_MEMORY with
 * nothing of it, or, of a message, a part. */
void check_without_memory(host_run run, int32_t status, const char *out, size_t out_len);

/* Where a result is when it fits the room: there, in memory of the plug-in's all the same, or in one of the two. */
enum where { ROOM, OWN, ANYWHERE };

/* ferrule_fn_<name> with rooms of every size around that of the output, on older and newer frames and tables, and
 * without memory. */
void check(const char *name, const char *in, int32_t status, const char *out, enum where where);
void check_bytes(const char *name, const char *in, size_t in_len, int32_t status, const char *out, size_t out_len,
                 enum where where);

/* A text of n times c, 6,000 at most. [lifetime] until the next call but one. */
const char *times(size_t n, char c);

#endif /* HOST_H */
