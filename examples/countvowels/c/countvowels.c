#include <ferrule/sdk.h>
FERRULE_PLUGIN(FERRULE_NAME("countvowels") FERRULE_VERSION("1.0.0"));
FERRULE_FN_META(count_vowels, FERRULE_DOC("Counts the vowels of a text."));
FERRULE_FN(count_vowels) {
    size_t n = 0;
    for (size_t i = 0; i < call->in_len; i++) n += call->in[i] && strchr("aeiouAEIOU", call->in[i]);
    return ferrule_replyf(call, "%zu", n);
}
