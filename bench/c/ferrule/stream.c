/* Work on streams, and the same digest of bytes that are all there. */
#include <ferrule/sdk.h>

#include <openssl/evp.h>

FERRULE_PLUGIN(FERRULE_NAME("stream") FERRULE_VERSION("1.0.0") FERRULE_THREADS("concurrent"));

FERRULE_FN_META(sha256, FERRULE_STREAM("in"));
FERRULE_FN(sha256) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const uint8_t *piece;
    size_t len;
    uint8_t sum[EVP_MAX_MD_SIZE];
    int32_t status = FERRULE_FAILED;
    if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL)) {
        while ((status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len) EVP_DigestUpdate(context, piece, len);
        if (status == FERRULE_OK && !EVP_DigestFinal_ex(context, sum, NULL)) status = FERRULE_FAILED;
    }
    EVP_MD_CTX_free(context);
    return status == FERRULE_OK ? ferrule_reply(call, sum, 32) : status;
}

FERRULE_FN(sha256_at_once) {
    uint8_t sum[EVP_MAX_MD_SIZE];
    if (!EVP_Digest(call->in, call->in_len, sum, NULL, EVP_sha256(), NULL)) return FERRULE_FAILED;
    return ferrule_reply(call, sum, 32);
}

FERRULE_FN_META(pipe, FERRULE_STREAM("both"));
FERRULE_FN(pipe) {
    const uint8_t *piece;
    size_t len;
    int32_t status;
    while ((status = ferrule_read(call, &piece, &len)) == FERRULE_OK && len)
        if ((status = ferrule_write(call, piece, len)) != FERRULE_OK) break;
    return status;
}
