/* A plug-in in C++ that is built without exceptions. */
#include <ferrule/sdk.hpp>
FERRULE_PLUGIN(FERRULE_NAME("quiet") FERRULE_VERSION("1.0.0"));
namespace host {
FERRULE_CPP_IMPORT(echo);
FERRULE_CPP_WANT(cache);
} // namespace host
struct counter {
    explicit counter(ferrule::context &ctx, std::string_view) : between(ctx.background()) {}
    std::string next() { return std::to_string(++n); }
    long n = 0;
    ferrule::background between;
};
FERRULE_CPP_STATE(counter);
FERRULE_CPP_FN(next, &counter::next);
FERRULE_CPP_FN(ask, [](ferrule::context &ctx, std::string_view in) -> ferrule::result<std::string> {
    if (in.empty()) return ferrule::pass;
    if (in.size() > 99) return ferrule::error(FERRULE_INVALID, "expected a short text");
    ctx.log_info("asking", {{"bytes", in.size()}});
    if (auto cached = host::cache(ctx, in)) return cached;
    return host::echo(ctx, in);
});
FERRULE_CPP_FN(lines, [](ferrule::context &ctx) -> ferrule::result<std::string> {
    ferrule::istream in(ctx);
    long n = 0;
    for (std::string line; std::getline(in, line);) n++;
    if (in.status() != FERRULE_OK) return ferrule::error(in.status(), "the stream broke off");
    return std::to_string(n);
});
