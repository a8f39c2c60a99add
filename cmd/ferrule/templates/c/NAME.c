/* The plug-in {{.Name}}. A host finds its functions by their names; nothing is to be registered. */
#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("{{.Name}}") FERRULE_VERSION("0.1.0"));

FERRULE_FN_META(greet, FERRULE_DOC("Greets whoever the input names.") FERRULE_IN("text/plain") FERRULE_OUT("text/plain"));
FERRULE_FN(greet) {
    ferrule_buffer reply = FERRULE_BUFFER_INIT;
    ferrule_buffer_append(&reply, "Hello, ", 7);
    if (call->in_len == 0)
        ferrule_buffer_append(&reply, "world", 5);
    else
        ferrule_buffer_append(&reply, call->in, call->in_len); /* no NUL follows the input: go by its length */
    ferrule_buffer_append(&reply, "!", 1);
    return ferrule_reply_buffer(call, &reply);
}
