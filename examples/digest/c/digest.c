/* Digests of streams, by OpenSSL's libcrypto, which uses what the processor has for them.
 *
 * The input stream is read piece by piece, where the host has it: however long it is, nothing is copied, and nothing grows. */
#include <ferrule/sdk.h>

#include <openssl/evp.h>

FERRULE_PLUGIN(FERRULE_NAME("digest") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent")
                   FERRULE_DESCRIPTION("Digests of streams, by OpenSSL's libcrypto"));

static int32_t digest(ferrule_call *call, EVP_MD_CTX *context, const EVP_MD *algorithm) {
    const uint8_t *piece;
    size_t len;
    uint64_t done = 0;
    uint8_t sum[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned int size = 0, i;
    int32_t status;
    if (!EVP_DigestInit_ex(context, algorithm, NULL)) return ferrule_fail(call, FERRULE_FAILED, "libcrypto has no such digest");
    while ((status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len) {
        if (!EVP_DigestUpdate(context, piece, len)) return ferrule_fail(call, FERRULE_FAILED, "libcrypto refused a piece");
        ferrule_set_progress(call, done += len, 0); /* in bytes; how many there are in all nobody has said */
    }
    if (status != FERRULE_OK) return status; /* also when the call is cancelled */
    if (!EVP_DigestFinal_ex(context, sum, &size)) return ferrule_fail(call, FERRULE_FAILED, "libcrypto gave no digest");
    for (i = 0; i < size; i++) snprintf(text + 2 * i, 3, "%02x", (unsigned)sum[i]);
    return ferrule_reply_text(call, text);
}

static int32_t digest_with(ferrule_call *call, const EVP_MD *algorithm) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int32_t status = context ? digest(call, context, algorithm) : FERRULE_NO_MEMORY;
    EVP_MD_CTX_free(context);
    return status;
}

FERRULE_FN_META(sha256, FERRULE_DOC("The SHA-256 of the input stream, in hexadecimal digits.") FERRULE_STREAM("in")
                            FERRULE_OUT("text/plain"));
FERRULE_FN(sha256) { return digest_with(call, EVP_sha256()); }

FERRULE_FN_META(sha512, FERRULE_DOC("The SHA-512 of the input stream, in hexadecimal digits.") FERRULE_STREAM("in")
                            FERRULE_OUT("text/plain"));
FERRULE_FN(sha512) { return digest_with(call, EVP_sha512()); }
