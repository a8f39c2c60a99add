// The discount in C++, over nlohmann/json. What it decides is in the README.
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>

#include <ferrule/sdk.hpp>

using nlohmann::json;

FERRULE_PLUGIN(FERRULE_NAME("discount") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent"));
FERRULE_CPP_IMPORT(loyalty_points);

namespace {

constexpr std::int64_t most = (std::int64_t{1} << 53) - 1; // what JavaScript has exactly, too

// So much of an amount, to the nearest cent, half of one up.
std::int64_t percent(std::int64_t amount, int percent) { return (amount * percent + 50) / 100; }

std::invalid_argument faulty(const char *expected) { return std::invalid_argument(std::string("expected ") + expected); }

std::string text(const json &of, const char *name) {
    const auto found = of.find(name);
    if (found == of.end() || !found->is_string()) throw faulty("a text");
    return found->get<std::string>();
}

// get would make an integer of 1.5 and of true, too.
std::int64_t number(const json &of, const char *name) {
    const auto found = of.find(name);
    if (found == of.end() || !found->is_number_unsigned() || found->get<std::uint64_t>() > std::uint64_t{most})
        throw faulty("an integer of 0 to 9007199254740991");
    return found->get<std::int64_t>();
}

struct item {
    explicit item(const json &from) : name(text(from, "name")), category(text(from, "category")), cost(number(from, "cents")) {
        const auto quantity = number(from, "quantity");
        if (quantity && cost > most / quantity) throw faulty("an item that costs less");
        cost *= quantity;
    }
    std::string name, category;
    std::int64_t cost;
};

struct cart {
    explicit cart(const json &from) : customer(text(from, "customer")) {
        if (from.contains("coupon") && !from["coupon"].is_null()) coupon = text(from, "coupon");
        if (!coupon.empty() && coupon != "FIVE") throw std::invalid_argument("there is no such coupon");
        if (!from.contains("items") || !from["items"].is_array()) throw faulty("items");
        for (const auto &one : from["items"]) {
            items.emplace_back(one);
            if (items.back().cost > most - subtotal) throw faulty("a cart that costs less");
            subtotal += items.back().cost;
        }
    }
    std::string customer, coupon;
    std::vector<item> items;
    std::int64_t subtotal = 0;
};

cart read(std::string_view in) try {
    return cart(json::parse(in));
} catch (const json::exception &e) { // its words may have bytes that are not UTF-8
    throw std::invalid_argument("expected JSON of a cart, found error " + std::to_string(e.id));
}

std::string before_checkout(ferrule::context &ctx, std::string_view in) {
    const cart c = read(in);
    const std::int64_t points = c.customer.empty() ? 0 : std::stoll(loyalty_points(ctx, c.customer));

    std::int64_t books = 0, most_off = 0;
    json best;
    for (const auto &i : c.items) {
        if (i.category != "books") continue;
        const auto off = percent(i.cost, 10);
        books += off;
        if (off > most_off) most_off = off, best = i.name;
    }
    auto remains = c.subtotal - books;
    const auto volume = percent(remains, remains >= 50000 ? 10 : remains >= 10000 ? 5 : 0);
    remains -= volume;
    const auto coupon = c.coupon.empty() ? 0 : std::min<std::int64_t>(500, remains);
    remains -= coupon;
    const auto spent = std::min(points, remains / 2);
    return json{{"cents", books + volume + coupon + spent}, {"points", spent}, {"best", best}}.dump();
}

} // namespace

FERRULE_FN_META(before_checkout, FERRULE_IN("application/json") FERRULE_OUT("application/json"));
FERRULE_CPP_FN(before_checkout, before_checkout);
