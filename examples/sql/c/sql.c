/* SQLite as a plug-in: one connection for each instance, and cursors that live across calls.
 *
 * A cursor is the instance's: who opens one needs a session, or the next call may meet another instance (R15). */
#include <sqlite3.h>
#include <stdlib.h>

#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("sql") FERRULE_VERSION("1.0.0")
               FERRULE_DESCRIPTION("SQLite. The configuration is the path of a database; without one it is in memory."));

typedef struct connection {
    sqlite3 *db;
    sqlite3_stmt *cursor; /* the one that is open, or NULL */
    ferrule_call *running;
} connection;

/* SQLite asks now and then whether to go on. */
static int cancelled(void *arg) {
    connection *c = arg;
    return c->running && ferrule_cancelled(c->running);
}

FERRULE_START {
    char path[4096];
    connection *c;
    int32_t status = ferrule_in_text(call, path, sizeof path);
    if (status) return status;
    if (!(c = calloc(1, sizeof *c))) return FERRULE_NO_MEMORY;
    if (sqlite3_open(path[0] ? path : ":memory:", &c->db) != SQLITE_OK) {
        status = ferrule_fail(call, FERRULE_FAILED, "%s: %s", path, c->db ? sqlite3_errmsg(c->db) : "no memory");
        sqlite3_close(c->db);
        free(c);
        return status;
    }
    sqlite3_busy_timeout(c->db, 10000);
    sqlite3_progress_handler(c->db, 10000, cancelled, c);
    call->state = c;
    return FERRULE_OK;
}

FERRULE_STOP {
    connection *c = FERRULE_STATE(call, connection);
    sqlite3_finalize(c->cursor);
    sqlite3_close(c->db);
    free(c);
    return FERRULE_OK;
}

static int32_t failed(ferrule_call *call, connection *c, int result) {
    switch (result) {
    case SQLITE_INTERRUPT: return FERRULE_CANCELLED;
    case SQLITE_NOMEM: return FERRULE_NO_MEMORY;
    default: return ferrule_fail(call, result == SQLITE_ERROR ? FERRULE_INVALID : FERRULE_FAILED, "%s", sqlite3_errmsg(c->db));
    }
}

FERRULE_FN_META(exec, FERRULE_DOC("Runs statements that return no rows.") FERRULE_IN("application/sql"));
FERRULE_FN(exec) {
    connection *c = FERRULE_STATE(call, connection);
    const char *sql = (const char *)call->in, *end = sql + call->in_len;
    int result = SQLITE_OK;
    if (call->in_len && memchr(call->in, 0, call->in_len)) /* SQLite stops there, each time again */
        return ferrule_fail(call, FERRULE_INVALID, "found a NUL, expected SQL");
    c->running = call;
    while (result == SQLITE_OK && sql < end) {
        sqlite3_stmt *statement;
        result = sqlite3_prepare_v2(c->db, sql, (int)(end - sql), &statement, &sql);
        if (result != SQLITE_OK) break;
        if (statement) { /* else it was white space, or a comment */
            while ((result = sqlite3_step(statement)) == SQLITE_ROW) {}
            if (result == SQLITE_DONE) result = SQLITE_OK;
        }
        sqlite3_finalize(statement);
    }
    c->running = NULL;
    return result == SQLITE_OK ? FERRULE_OK : failed(call, c, result);
}

FERRULE_FN_META(query, FERRULE_DOC("Begins a query, whose rows next gives. One query runs at a time.") FERRULE_IN("application/sql"));
FERRULE_FN(query) {
    connection *c = FERRULE_STATE(call, connection);
    int result;
    sqlite3_finalize(c->cursor);
    c->cursor = NULL;
    result = sqlite3_prepare_v2(c->db, (const char *)call->in, (int)call->in_len, &c->cursor, NULL);
    if (result != SQLITE_OK) return failed(call, c, result);
    return c->cursor ? FERRULE_OK : ferrule_fail(call, FERRULE_INVALID, "no statement");
}

/* A row, its columns with a tab between them. */
static void row(ferrule_buffer *rows, sqlite3_stmt *cursor) {
    int i, n = sqlite3_column_count(cursor);
    for (i = 0; i < n; i++) {
        const unsigned char *text = sqlite3_column_text(cursor, i);
        if (i) ferrule_buffer_append(rows, "\t", 1);
        ferrule_buffer_append(rows, text ? (const char *)text : "", (size_t)sqlite3_column_bytes(cursor, i));
    }
    ferrule_buffer_append(rows, "\n", 1);
}

FERRULE_FN_META(next, FERRULE_DOC("Up to 100 more rows, a line each with tabs between the columns; pass when there are no more.")
                          FERRULE_OUT("text/tab-separated-values"));
FERRULE_FN(next) {
    connection *c = FERRULE_STATE(call, connection);
    ferrule_buffer rows = FERRULE_BUFFER_INIT;
    int i, result = SQLITE_ROW;
    if (!c->cursor) return FERRULE_PASS;
    c->running = call;
    for (i = 0; i < 100 && (result = sqlite3_step(c->cursor)) == SQLITE_ROW; i++) row(&rows, c->cursor);
    c->running = NULL;
    if (result == SQLITE_ROW) return ferrule_reply_buffer(call, &rows);
    sqlite3_finalize(c->cursor);
    c->cursor = NULL;
    if (result == SQLITE_DONE && i) return ferrule_reply_buffer(call, &rows);
    ferrule_buffer_free(&rows);
    return result == SQLITE_DONE ? FERRULE_PASS : failed(call, c, result);
}
