// The plug-in {{.Name}}. A host finds its functions by their names; nothing is to be registered.
#include <ferrule/sdk.hpp>

FERRULE_PLUGIN(FERRULE_NAME("{{.Name}}") FERRULE_VERSION("0.1.0"));

static std::string greet(std::string_view name) {
    if (name.empty()) name = "world";
    return "Hello, " + std::string(name) + "!";
}
FERRULE_FN_META(greet, FERRULE_DOC("Greets whoever the input names.") FERRULE_IN("text/plain") FERRULE_OUT("text/plain"));
FERRULE_CPP_FN(greet, greet);
