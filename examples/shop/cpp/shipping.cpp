// shipping: adds what shipping costs to an order.
#include <ferrule/sdk.hpp>

#include "../json.h"

FERRULE_PLUGIN(FERRULE_NAME("shipping") FERRULE_VERSION("1.0.0") FERRULE_DESCRIPTION("Adds the cost of shipping."));

// What it costs, and from which total on it costs nothing, in cents.
class rates {
public:
    explicit rates(std::string_view config) { configure(config); }
    void configure(std::string_view config) {
        cents_ = json_number(config.data(), config.size(), "\"cents\":", 490);
        free_from_ = json_number(config.data(), config.size(), "\"freeFrom\":", 10000);
    }
    long long of(long long total) const { return total < free_from_ ? cents_ : 0; }

private:
    long long cents_ = 0, free_from_ = 0;
};
FERRULE_CPP_STATE(rates);
FERRULE_CPP_CONFIGURE(&rates::configure);

// An order is {…,"totalInCents":1,"shippingInCents":0}: the total gets more, and the last member says how much.
static ferrule::result<std::string> before_payment(ferrule::context &ctx, std::string_view order) {
    constexpr std::string_view name = "\"totalInCents\":";
    const auto at = order.find(name);
    if (at == std::string_view::npos) return ferrule::error(FERRULE_INVALID, "expected totalInCents");
    const auto total = json_number(order.data(), order.size(), "\"totalInCents\":", 0);
    const auto more = ctx.state<rates>().of(total);
    if (more == 0) return ferrule::pass;
    return std::string(order.substr(0, at + name.size())) + std::to_string(total + more) + ",\"shippingInCents\":" + std::to_string(more) + "}";
}
FERRULE_HOOK_META(before_payment, FERRULE_DOC("Adds shipping to the total of small orders."));
FERRULE_CPP_HOOK(before_payment, before_payment);
