/* The plug-in {{.Name}}: what a host calls. It finds the functions by their names; nothing is to be registered. */
#include <ferrule/sdk.h>

#include "src/greeting.h"

FERRULE_PLUGIN(FERRULE_NAME("{{.Name}}") FERRULE_VERSION("0.1.0"));

FERRULE_FN_META(greet, FERRULE_DOC("Greets whoever the input names.") FERRULE_IN("text/plain") FERRULE_OUT("text/plain"));
FERRULE_FN(greet) {
    const char *name = (const char *)call->in; /* no NUL follows the input: go by its length */
    size_t len = greeting(NULL, 0, name, call->in_len);
    char *out = (char *)ferrule_reserve(call, len);
    if (!out) return FERRULE_NO_MEMORY;
    call->out_len = greeting(out, len, name, call->in_len);
    return FERRULE_OK;
}
