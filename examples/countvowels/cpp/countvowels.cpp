#include <ferrule/sdk.hpp>

#include <algorithm>

FERRULE_PLUGIN(FERRULE_NAME("countvowels") FERRULE_VERSION("1.0.0"));
FERRULE_FN_META(count_vowels, FERRULE_DOC("Counts the vowels of a text."));

static bool is_vowel(char c) { return std::string_view("aeiouAEIOU").find(c) != std::string_view::npos; }

static std::string count_vowels(std::string_view text) {
    return std::to_string(std::count_if(text.begin(), text.end(), is_vowel));
}
FERRULE_CPP_FN(count_vowels, count_vowels);
