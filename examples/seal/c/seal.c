/* libsodium as a plug-in: bytes that nobody reads, or changes, without the key.
 *
 * The configuration is the key, 64 hexadecimal digits. It stays in memory that is locked, and is wiped when the instance stops. */
#include <sodium.h>

#include <ferrule/sdk.h>

FERRULE_PLUGIN(FERRULE_NAME("seal") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent")
                   FERRULE_DESCRIPTION("XChaCha20-Poly1305, by libsodium. The configuration is a key, 64 hexadecimal digits."));

enum { key_size = crypto_secretbox_xchacha20poly1305_KEYBYTES, nonce_size = crypto_secretbox_xchacha20poly1305_NONCEBYTES,
       mac_size = crypto_secretbox_xchacha20poly1305_MACBYTES, added = nonce_size + mac_size };

FERRULE_START {
    unsigned char *key;
    size_t len = 0;
    const char *end = NULL;
    if (sodium_init() < 0) return ferrule_fail(call, FERRULE_FAILED, "libsodium cannot be used here");
    if (!(key = sodium_malloc(key_size))) return FERRULE_NO_MEMORY;
    if (sodium_hex2bin(key, key_size, (const char *)call->in, call->in_len, NULL, &len, &end) || len != key_size ||
        end != (const char *)call->in + call->in_len) {
        sodium_free(key);
        return ferrule_fail(call, FERRULE_INVALID, "the configuration is no key: %d hexadecimal digits", 2 * key_size);
    }
    sodium_mprotect_readonly(key);
    call->state = key;
    return FERRULE_OK;
}

FERRULE_STOP {
    sodium_free(call->state);
    return FERRULE_OK;
}

FERRULE_FN_META(seal, FERRULE_DOC("Encrypts the input under a nonce of its own, which comes first in the result."));
FERRULE_FN(seal) {
    uint8_t *out;
    if (call->in_len > (size_t)-1 / 2 - added) return FERRULE_NO_MEMORY;
    if (!(out = ferrule_reserve(call, call->in_len + added))) return FERRULE_NO_MEMORY;
    randombytes_buf(out, nonce_size);
    if (crypto_secretbox_xchacha20poly1305_easy(out + nonce_size, call->in, call->in_len, out, call->state))
        return ferrule_fail(call, FERRULE_FAILED, "libsodium refused the input");
    call->out_len = call->in_len + added;
    return FERRULE_OK;
}

FERRULE_FN_META(open, FERRULE_DOC("Decrypts what seal has made, if nobody has changed it."));
FERRULE_FN(open) {
    uint8_t *out;
    if (call->in_len < added) return ferrule_fail(call, FERRULE_INVALID, "too short: at least %d bytes", added);
    if (!(out = ferrule_reserve(call, call->in_len - added))) return FERRULE_NO_MEMORY;
    if (crypto_secretbox_xchacha20poly1305_open_easy(out, call->in + nonce_size, call->in_len - nonce_size, call->in, call->state))
        return ferrule_fail(call, FERRULE_INVALID, "sealed with another key, or changed since");
    call->out_len = call->in_len - added;
    return FERRULE_OK;
}
