/* The C++ plug-in behind words-cpp.dylib: what authors use of ferrule/sdk.hpp. dylib_test.go builds it for other systems
 * as well, and compares what is read from the files. */
#include <ferrule/sdk.hpp>

#include <utility>

FERRULE_PLUGIN(FERRULE_NAME("words") FERRULE_VERSION("1.0.0-rc.1") FERRULE_THREADS("concurrent"));

namespace host { FERRULE_CPP_IMPORT(translate); }
FERRULE_IMPORT_META(translate, FERRULE_DOC("A word in another language."));

class memory {
public:
    explicit memory(std::string_view config) : last_(config) {}
    std::string recall(std::string_view in) { return std::exchange(last_, std::string(in)); }

private:
    std::string last_;
};
FERRULE_CPP_STATE(memory);
FERRULE_CPP_FN(recall, &memory::recall);

static std::string shout(std::string_view in) {
    if (in.empty()) throw std::invalid_argument("expected a word");
    return std::string(in) + "!";
}
FERRULE_CPP_FN(shout, shout);
FERRULE_FN_META(shout, FERRULE_DOC("Says it louder.") FERRULE_IN("text/plain; charset=utf-8") FERRULE_OUT("text/plain"));

FERRULE_CPP_FN(in_french, [](ferrule::context &ctx, std::string_view in) {
    ctx.log_info("asking the host");
    return host::translate(ctx, in);
});
FERRULE_CPP_HOOK(before_print, [](std::string_view in) { return in.substr(0, in.find(' ')); });
