// JSON in and out, by nlohmann/json: what a basket costs. The configuration is JSON as well.
#include <cstdint>
#include <nlohmann/json.hpp>

#include <ferrule/sdk.hpp>

using nlohmann::json;

FERRULE_PLUGIN(FERRULE_NAME("basket") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent")
                   FERRULE_DESCRIPTION("What a basket costs. The configuration is {\"percent\": 0 to 100}, the discount; 0 without one."));

namespace {

constexpr std::int64_t most_cents = 100000000, most_count = 1000000;
constexpr std::int64_t most_total = std::int64_t{1} << 53; // beyond that, numbers of JavaScript's are not exact

// Messages of the library's quote the input, whatever its bytes are: the place is enough.
json parsed(std::string_view text) {
    try {
        return json::parse(text);
    } catch (const json::parse_error &e) {
        throw ferrule::error(FERRULE_INVALID, "expected JSON, found none at byte " + std::to_string(e.byte));
    } catch (const json::out_of_range &) {
        throw ferrule::error(FERRULE_INVALID, "expected JSON, found a number beyond those of a double");
    }
}

// A member of an object, or null: operator[] of a constant object that lacks it would be undefined.
const json &member(const json &of, const char *key) {
    static const json none;
    auto found = of.is_object() ? of.find(key) : of.end();
    return found == of.end() ? none : *found;
}

// An integer from 0 to most: get would make one of 1.5 and of true, too.
bool number(const json &value, std::int64_t most) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most);
}

class basket {
public:
    explicit basket(std::string_view config) {
        if (config.empty()) return;
        json settings = parsed(config);
        const json &percent = member(settings, "percent");
        if (!settings.is_object() || !(percent.is_null() || number(percent, 100)))
            throw ferrule::error(FERRULE_INVALID, "expected {\"percent\": 0 to 100}");
        if (!percent.is_null()) percent_ = percent.get<std::int64_t>();
    }

    std::string total(ferrule::context &ctx, std::string_view in) const {
        json all = parsed(in);
        const json &items = member(all, "items");
        if (!items.is_array()) throw ferrule::error(FERRULE_INVALID, "expected an array \"items\"");
        std::int64_t sum = 0, largest = -1;
        json most;
        for (std::size_t i = 0; i < items.size(); i++) {
            if (i % 4096 == 4095 && ctx.cancelled()) throw ferrule::error(FERRULE_CANCELLED, "");
            const json &name = member(items[i], "name"), &cents = member(items[i], "cents"), &count = member(items[i], "count");
            if (!name.is_string() || !number(cents, most_cents) || !number(count, most_count))
                throw ferrule::error(FERRULE_INVALID, "expected a text \"name\", \"cents\" of 0 to " + std::to_string(most_cents) +
                                                          " and a \"count\" of 0 to " + std::to_string(most_count) + " in item " +
                                                          std::to_string(i));
            std::int64_t cost = cents.get<std::int64_t>() * count.get<std::int64_t>();
            if (cost > most_total - sum) throw ferrule::error(FERRULE_INVALID, "the basket costs more than can be told");
            sum += cost;
            if (cost > largest) largest = cost, most = name;
        }
        sum -= sum / 100 * percent_ + sum % 100 * percent_ / 100;
        json result = {{"cents", sum}};
        if (!most.is_null()) result["most"] = most;
        return result.dump();
    }

private:
    std::int64_t percent_ = 0;
};

} // namespace

FERRULE_CPP_STATE(basket);
FERRULE_FN_META(total, FERRULE_DOC("What {\"items\": [{\"name\": TEXT, \"cents\": N, \"count\": N}]} costs, as {\"cents\": N, \"most\": NAME}.")
                           FERRULE_IN("application/json") FERRULE_OUT("application/json"));
FERRULE_CPP_FN(total, &basket::total);
