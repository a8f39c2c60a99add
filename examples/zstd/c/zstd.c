/* Compresses and decompresses with the system's libzstd.
 *
 * The configuration is words, each of which may be missing: `level=N`, how hard to compress, 1 to 22 (3), and
 * `max=BYTES`, the longest result that decompress gives (1 GiB): some bytes of input can become gigabytes of output.
 *
 * An instance holds what libzstd needs for one call at a time, so that it is not made anew for each. */
#include <ferrule/sdk.h>

#include <zstd.h>

FERRULE_PLUGIN(FERRULE_NAME("zstd") FERRULE_VERSION("1.0.0") FERRULE_DESCRIPTION("Zstandard, by the system's libzstd"));

typedef struct coder {
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
    long long max; /* bytes */
} coder;

static void coder_free(coder *c) {
    if (!c) return;
    ZSTD_freeCCtx(c->compressor);
    ZSTD_freeDCtx(c->decompressor);
    free(c);
}

static int32_t configure(ferrule_call *call, coder *c) {
    char text[128], *word = text;
    int level = ZSTD_CLEVEL_DEFAULT;
    int32_t status = ferrule_in_text(call, text, sizeof text);
    if (status != FERRULE_OK) return status;
    while (*(word += strspn(word, " \n"))) {
        char *end = word + strcspn(word, " \n");
        char *next = *end ? end + 1 : end;
        int n = 0;
        *end = '\0';
        /* Widths, because scanf does not say when a number is too large for its type. */
        if (sscanf(word, "level=%9d%n", &level, &n) == 1) {
            if (word + n != end || level < 1 || level > ZSTD_maxCLevel())
                return ferrule_fail(call, FERRULE_INVALID, "found \"%s\", expected level=1 to level=%d", word,
                                    ZSTD_maxCLevel());
        } else if (sscanf(word, "max=%18lld%n", &c->max, &n) != 1 || word + n != end || c->max < 1) {
            return ferrule_fail(call, FERRULE_INVALID, "found \"%s\", expected level=NUMBER and max=BYTES", word);
        }
        word = next;
    }
    ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(c->compressor, ZSTD_c_checksumFlag, 1);
    return FERRULE_OK;
}

FERRULE_START {
    coder *c = calloc(1, sizeof *c);
    int32_t status = FERRULE_NO_MEMORY;
    if (c) {
        c->max = 1LL << 30;
        c->compressor = ZSTD_createCCtx();
        c->decompressor = ZSTD_createDCtx();
        if (c->compressor && c->decompressor) status = configure(call, c);
    }
    if (status != FERRULE_OK) {
        coder_free(c);
        return status;
    }
    call->state = c;
    return FERRULE_OK;
}

FERRULE_STOP {
    coder_free(call->state);
    return FERRULE_OK;
}

FERRULE_FN_META(compress, FERRULE_DOC("Compresses into one frame with a checksum.") FERRULE_OUT("application/zstd"));
FERRULE_FN(compress) {
    ZSTD_CCtx *compressor = FERRULE_STATE(call, coder)->compressor;
    ZSTD_inBuffer in = {call->in, 0, 0};
    ZSTD_outBuffer out = {NULL, ZSTD_compressBound(call->in_len), 0};
    size_t left;
    if (ZSTD_isError(out.size)) return ferrule_fail(call, FERRULE_INVALID, "%s", ZSTD_getErrorName(out.size));
    out.dst = ferrule_reserve(call, out.size);
    if (!out.dst) return FERRULE_NO_MEMORY;
    ZSTD_CCtx_reset(compressor, ZSTD_reset_session_only);
    ZSTD_CCtx_setPledgedSrcSize(compressor, call->in_len);
    /* In slices, to hear of a cancellation between them: at high levels a megabyte takes half a second. */
    do {
        const size_t slice = ZSTD_CStreamInSize();
        if (ferrule_cancelled(call)) return FERRULE_CANCELLED;
        in.size = call->in_len - in.pos > slice ? in.pos + slice : call->in_len;
        left = ZSTD_compressStream2(compressor, &out, &in, in.size < call->in_len ? ZSTD_e_continue : ZSTD_e_end);
        if (ZSTD_isError(left)) return ferrule_fail(call, FERRULE_FAILED, "%s", ZSTD_getErrorName(left));
        if (left && out.pos == out.size)
            return ferrule_fail(call, FERRULE_FAILED, "the result is longer than ZSTD_compressBound says");
        ferrule_set_progress(call, in.pos, call->in_len);
    } while (in.size < call->in_len || left);
    call->out_len = out.pos;
    return FERRULE_OK;
}

static int32_t decompress(ferrule_call *call, coder *c, ferrule_buffer *result) {
    const size_t piece = ZSTD_DStreamOutSize();
    ZSTD_inBuffer in = {call->in, call->in_len, 0};
    ZSTD_outBuffer out;
    size_t left;
    ZSTD_DCtx_reset(c->decompressor, ZSTD_reset_session_only);
    do {
        if (ferrule_cancelled(call)) return FERRULE_CANCELLED;
        if (ferrule_buffer_reserve(result, piece) != FERRULE_OK) return FERRULE_NO_MEMORY;
        out = (ZSTD_outBuffer){result->data + result->len, piece, 0};
        left = ZSTD_decompressStream(c->decompressor, &out, &in);
        if (ZSTD_isError(left))
            return ferrule_fail(call, FERRULE_INVALID, "not zstd data, or damaged: %s", ZSTD_getErrorName(left));
        result->len += out.pos;
        if ((unsigned long long)result->len > (unsigned long long)c->max)
            return ferrule_fail(call, FERRULE_FAILED, "the result is longer than the configured max=%lld", c->max);
        ferrule_set_progress(call, in.pos, in.size);
    } while (in.pos < in.size || (left && out.pos == out.size));
    if (left) return ferrule_fail(call, FERRULE_INVALID, "cut off: the %zu bytes end within a frame", in.size);
    return FERRULE_OK;
}

FERRULE_FN_META(decompress, FERRULE_DOC("Decompresses one or more frames.") FERRULE_IN("application/zstd"));
FERRULE_FN(decompress) {
    ferrule_buffer result = FERRULE_BUFFER_INIT;
    int32_t status = decompress(call, FERRULE_STATE(call, coder), &result);
    if (status == FERRULE_OK) return ferrule_reply_buffer(call, &result);
    ferrule_buffer_free(&result);
    return status;
}
