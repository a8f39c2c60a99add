// The plug-in {{.Name}}: what a host calls. It finds the functions by their names; nothing is to be registered.
#include <ferrule/sdk.hpp>

#include "src/greeting.hpp"

FERRULE_PLUGIN(FERRULE_NAME("{{.Name}}") FERRULE_VERSION("0.1.0"));

FERRULE_FN_META(greet, FERRULE_DOC("Greets whoever the input names.") FERRULE_IN("text/plain") FERRULE_OUT("text/plain"));
FERRULE_CPP_FN(greet, greeting);
