/* A plug-in over the contract alone that uses each macro of ferrule.h. Valid as C99 and as C++11. */
#include <ferrule.h>
FERRULE_PLUGIN(FERRULE_NAME("every") FERRULE_VERSION("1") FERRULE_DESCRIPTION("d") FERRULE_THREADS("serial")
                   FERRULE_STATE_FORMAT("every-1"));
FERRULE_CONFIG_SCHEMA = "{}";
FERRULE_WANT(cache);
FERRULE_WANT_META(cache, FERRULE_DOC("d"));
FERRULE_IMPORT(points);
FERRULE_IMPORT_META(points, FERRULE_DOC("d"));
FERRULE_FN(one) { return FERRULE_HAS(call, cancel) && ferrule_cancelled(call) ? FERRULE_CANCELLED : FERRULE_OK; }
FERRULE_FN_META(one, FERRULE_DOC("d") FERRULE_IN("text/plain") FERRULE_OUT("text/plain") FERRULE_SCHEMA("{}"));
FERRULE_HOOK(two) { return FERRULE_ORDINAL(points) == FERRULE_UNBOUND ? FERRULE_FAILED : FERRULE_STATUS_OWN; }
FERRULE_HOOK_META(two, FERRULE_KEY("x-own", "y"));
FERRULE_FN(three) {
    ferrule_set_progress(call, 1, 2);
    return FERRULE_WANT_ORDINAL(cache) == FERRULE_UNBOUND ? FERRULE_PASS : FERRULE_OK;
}
FERRULE_FN_META(three, FERRULE_DOC("d") FERRULE_STREAM("both"));
FERRULE_CONFIGURE { return FERRULE_OK; }
FERRULE_SAVE { return FERRULE_OK; }
FERRULE_RESUME { return FERRULE_OK; }
FERRULE_START { return FERRULE_OK; }
FERRULE_STOP { return FERRULE_OK; }
