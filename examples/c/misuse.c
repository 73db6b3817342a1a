/* misuse: every kind of misuse that a library can detect. Each must return its status and an error text, and
 * change nothing.
 *
 *     misuse MODEL FOLDER
 *
 * (misuse_engines does the same with engines.) MODEL is a GGUF file with a tokenizer; FOLDER is for files that this program writes. Build it as story.c.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "teff.h"

static int32_t quiet(void *user, const char *text, size_t len) {
    (void)user, (void)text, (void)len;
    return 0;
}

/* ---- Files ---- */

static unsigned char *read_file(const char *path, size_t *len) {
    FILE *f = fopen(path, "rb");
    unsigned char *bytes = NULL;
    long n = -1;
    if (f != NULL && fseek(f, 0, SEEK_END) == 0) n = ftell(f);
    if (n > 0 && fseek(f, 0, SEEK_SET) == 0) bytes = malloc((size_t)n);
    if (bytes != NULL && fread(bytes, 1, (size_t)n, f) != (size_t)n) {
        free(bytes);
        bytes = NULL;
    }
    if (f != NULL) fclose(f);
    *len = bytes == NULL ? 0 : (size_t)n;
    return bytes;
}

static int32_t open_written(const char *path, const void *bytes, size_t len) {
    teff_model *model = (teff_model *)1;
    FILE *f = fopen(path, "wb");
    int32_t status;
    if (f == NULL || fwrite(bytes, 1, len, f) != len || fclose(f) != 0) {
        perror(path);
        exit(2);
    }
    status = teff_model_open(path, NULL, &model);
    CHECK(model == NULL);
    remove(path);
    return status;
}

static void files(const unsigned char *gguf, size_t len, const char *folder) {
    char path[4096];
    teff_load_options options = TEFF_LOAD_OPTIONS_INIT;
    teff_model *model = NULL;
    size_t at;
    snprintf(path, sizeof path, "%s/misuse-%lu.gguf", folder, (unsigned long)len);
    EXPECT(teff_model_open("no/such/file.gguf", NULL, &model), TEFF_IO, "no/such/file.gguf");
    EXPECT(teff_model_open("", NULL, &model), TEFF_IO, "can't be read");
    EXPECT(teff_model_open(folder, NULL, &model), TEFF_MODEL, "config.json");
    EXPECT(open_written(path, "", 0), TEFF_MODEL, "empty");
    EXPECT(open_written(path, "\x89PNG\r\n\x1a\n and so on", 18), TEFF_MODEL, "PNG");
    EXPECT(open_written(path, gguf, 20), TEFF_MODEL, "misuse");
    EXPECT(open_written(path, gguf, len / 2), TEFF_MODEL, "misuse");
    EXPECT(open_written(path, gguf, len - 1), TEFF_MODEL, "misuse");
    for (at = 0; at < len; at += len / 23 + 1) {
        CHECK(teff_model_open_bytes(gguf, at, NULL, &model) == TEFF_MODEL);
        CHECK(model == NULL);
    }
    options.size -= 8;
    EXPECT(teff_model_open(path, &options, &model), TEFF_ARGUMENT, "options->size");
    options.size = 0;
    EXPECT(teff_model_open(path, &options, &model), TEFF_ARGUMENT, "teff_load_options");
    options.size = sizeof options;
    options.flags = 12;
    EXPECT(teff_model_open(path, &options, &model), TEFF_ARGUMENT, "0xc");
    options.flags = TEFF_LOAD_READ;
    options.quantize = "Q9_Z";
    EXPECT(teff_model_open_bytes(gguf, len, &options, &model), TEFF_ARGUMENT, "Q9_Z");
    options.quantize = "F32";
    EXPECT(teff_model_open_bytes(gguf, len, &options, &model), TEFF_ARGUMENT, "F32");
}

/* Returns a copy of the file in which the byte at `offset` from the first `name` is `byte`, to change a name or a
 * value of its header. The caller frees the copy. */
static unsigned char *changed(const unsigned char *gguf, size_t len, const char *name,
                              size_t offset, unsigned char byte) {
    unsigned char *copy = malloc(len);
    size_t at, n = strlen(name);
    if (copy == NULL) exit(2);
    memcpy(copy, gguf, len);
    for (at = 0; at + n + offset < len; at++) {
        if (memcmp(copy + at, name, n) == 0) break;
    }
    CHECK(at + n + offset < len);
    copy[at + offset] = byte;
    return copy;
}

/* A model of an unknown architecture is refused; one without a tokenizer still computes. */
static void kinds(const unsigned char *gguf, size_t len) {
    const char *architecture = "general.architecture", *tokenizer = "tokenizer.ggml.model";
    teff_session_options one = TEFF_SESSION_OPTIONS_INIT;
    teff_model_info info = TEFF_MODEL_INFO_INIT;
    teff_model *model = NULL;
    teff_session *session = NULL;
    uint32_t token = 1;
    size_t n;
    /* A value follows its key after 4 bytes of type and 8 of length. */
    unsigned char *copy = changed(gguf, len, architecture, strlen(architecture) + 12, 'Z');
    EXPECT(teff_model_open_bytes(copy, len, NULL, &model), TEFF_UNSUPPORTED, "Z");
    free(copy);
    copy = changed(gguf, len, "GGUF", 4, 99); /* the version */
    EXPECT(teff_model_open_bytes(copy, len, NULL, &model), TEFF_UNSUPPORTED, "99");
    free(copy);
    copy = changed(gguf, len, tokenizer, strlen(tokenizer) - 1, 'L');
    EXPECT(teff_model_open_bytes(copy, len, NULL, &model), TEFF_OK, "");
    EXPECT(teff_model_describe(model, &info), TEFF_OK, "");
    CHECK(info.has_tokenizer == 0 && info.bos == TEFF_NO_TOKEN);
    one.threads = 1;
    EXPECT(teff_session_new(model, &one, &session), TEFF_OK, "");
    EXPECT(teff_tokenize(model, "a", 1, 0, NULL, 0, &n), TEFF_TOKENIZER, "tokenizer");
    EXPECT(teff_session_generate(session, "a", 1, NULL, quiet, NULL, NULL), TEFF_TOKENIZER, "tokenizer");
    EXPECT(teff_session_step(session, &token, 1, TEFF_LOGITS_NONE, NULL, 0), TEFF_OK, "");
    teff_session_free(session);
    teff_model_free(model);
    free(copy);
}

/* ---- Pointers, lengths, values ---- */

static void pointers(teff_model *model, teff_session *session) {
    union {
        uint64_t align;
        unsigned char bytes[64];
    } place;
    teff_model *none = NULL;
    teff_session *no_session = NULL;
    teff_model_info info = TEFF_MODEL_INFO_INIT;
    teff_needs needs = TEFF_NEEDS_INIT;
    uint32_t token = 1, *odd = (uint32_t *)(void *)(place.bytes + 1);
    size_t n = 0;
    const uint8_t *bytes = NULL;

    EXPECT(teff_model_open(NULL, NULL, &none), TEFF_NULL, "`path`");
    EXPECT(teff_model_open("x", NULL, NULL), TEFF_NULL, "`model`");
    EXPECT(teff_model_open_bytes(NULL, 7, NULL, &none), TEFF_NULL, "`bytes`");
    EXPECT(teff_model_open_bytes(NULL, 0, NULL, &none), TEFF_MODEL, "");
    EXPECT(teff_model_describe(NULL, &info), TEFF_NULL, "`model`");
    EXPECT(teff_model_describe(model, NULL), TEFF_NULL, "`info`");
    info.size = 4;
    EXPECT(teff_model_describe(model, &info), TEFF_ARGUMENT, "teff_model_info");
    EXPECT(teff_model_needs(NULL, NULL, &needs), TEFF_NULL, "`model`");
    EXPECT(teff_model_needs(model, NULL, NULL), TEFF_NULL, "`needs`");
    EXPECT(teff_tokenize(NULL, "a", 1, 0, &token, 1, &n), TEFF_NULL, "`model`");
    EXPECT(teff_tokenize(model, NULL, 1, 0, &token, 1, &n), TEFF_NULL, "`text`");
    EXPECT(teff_tokenize(model, "a", 1, 0, NULL, 1, &n), TEFF_NULL, "`tokens`");
    EXPECT(teff_tokenize(model, "a", 1, 0, &token, 1, NULL), TEFF_NULL, "`needed`");
    EXPECT(teff_tokenize(model, "a", (size_t)-1, 0, &token, 1, &n), TEFF_ARGUMENT, "length");
    EXPECT(teff_tokenize(model, "a", 1, 0, &token, SIZE_MAX / 2, &n), TEFF_ARGUMENT, "`tokens`");
    EXPECT(teff_tokenize(model, "a", 1, 0, odd, 1, &n), TEFF_ARGUMENT, "multiple of 4");
    EXPECT(teff_tokenize(model, "a", 1, 4, &token, 1, &n), TEFF_ARGUMENT, "0x4");
    EXPECT(teff_tokenize(model, "ab\xff", 3, 0, &token, 1, &n), TEFF_UTF8, "byte 2");
    EXPECT(teff_tokenize(model, "\xe2\x82", 2, 0, &token, 1, &n), TEFF_UTF8, "`text`");
    EXPECT(teff_detokenize(model, &token, 1, NULL, 8, &n), TEFF_NULL, "`text`");
    EXPECT(teff_detokenize(model, NULL, 1, NULL, 0, &n), TEFF_NULL, "`tokens`");
    token = 4000000000u;
    EXPECT(teff_detokenize(model, &token, 1, NULL, 0, &n), TEFF_TOKEN, "4000000000");
    EXPECT(teff_token_bytes(model, token, &bytes, &n), TEFF_TOKEN, "4000000000");
    EXPECT(teff_token_bytes(model, 1, NULL, &n), TEFF_NULL, "`bytes`");
    CHECK(teff_token_ends(model, token) == 0);
    CHECK(teff_token_ends(NULL, 1) == 0);
    EXPECT(teff_session_new(NULL, NULL, &no_session), TEFF_NULL, "`model`");
    EXPECT(teff_session_new(model, NULL, NULL), TEFF_NULL, "`session`");
    EXPECT(teff_session_fork(NULL, &no_session), TEFF_NULL, "`session`");
    EXPECT(teff_session_fork(session, NULL), TEFF_NULL, "`fork`");
    EXPECT(teff_session_describe(session, NULL), TEFF_NULL, "`info`");
    EXPECT(teff_session_cancel(NULL), TEFF_NULL, "`session`");
    EXPECT(teff_session_resume(NULL), TEFF_NULL, "`session`");
    EXPECT(teff_session_set_timeout(NULL, 1), TEFF_NULL, "`session`");
    EXPECT(teff_session_truncate(NULL, 0), TEFF_NULL, "`session`");
    EXPECT(teff_session_tokens(session, NULL, 0, NULL), TEFF_NULL, "`needed`");
    EXPECT(teff_session_save(session, NULL, 5, &n), TEFF_NULL, "`bytes`");
    EXPECT(teff_session_restore(session, NULL, 5), TEFF_NULL, "`bytes`");
    EXPECT(teff_session_restore(session, NULL, 0), TEFF_SNAPSHOT, "too short");
    EXPECT(teff_session_restore(session, (const uint8_t *)"TEFFKV01", 8), TEFF_SNAPSHOT, "short");
    EXPECT(teff_session_generate(session, "a", 1, NULL, NULL, NULL, NULL), TEFF_NULL, "`on_text`");
    EXPECT(teff_session_generate(session, NULL, 1, NULL, quiet, NULL, NULL), TEFF_NULL, "`prompt`");
    EXPECT(teff_session_generate(NULL, "a", 1, NULL, quiet, NULL, NULL), TEFF_NULL, "`session`");
    EXPECT(teff_session_generate(session, "\x80", 1, NULL, quiet, NULL, NULL), TEFF_UTF8, "byte 0");
    teff_model_free(NULL);
    teff_session_free(NULL);
}

static void options(teff_model *model, uint32_t context) {
    teff_session_options o = TEFF_SESSION_OPTIONS_INIT;
    teff_needs needs = TEFF_NEEDS_INIT;
    teff_session *session = (teff_session *)1;
    o.threads = 100000;
    EXPECT(teff_session_new(model, &o, &session), TEFF_ARGUMENT, "100000");
    CHECK(session == NULL);
    o.threads = 1;
    o.kv = 9;
    EXPECT(teff_session_new(model, &o, &session), TEFF_ARGUMENT, "`kv`");
    o.kv = TEFF_KV_F16;
    o.backend = "abacus";
    EXPECT(teff_session_new(model, &o, &session), TEFF_ARGUMENT, "abacus");
    o.backend = "\xff";
    EXPECT(teff_session_new(model, &o, &session), TEFF_UTF8, "`backend`");
    o.backend = "scalar";
    o.context = (size_t)context + 1;
    EXPECT(teff_model_needs(model, &o, &needs), TEFF_ARGUMENT, "context");
    o.context = SIZE_MAX;
    EXPECT(teff_model_needs(model, &o, &needs), TEFF_ARGUMENT, "context");
    o.context = context;
    o.batch = SIZE_MAX;
    o.logits = SIZE_MAX;
    EXPECT(teff_model_needs(model, &o, &needs), TEFF_OK, "");
    o.budget = needs.total - 1;
    EXPECT(teff_session_new(model, &o, &session), TEFF_BUDGET, "bytes");
    o.budget = needs.total;
    EXPECT(teff_session_new(model, &o, &session), TEFF_OK, "");
    teff_session_free(session);
    o.size = SIZE_MAX;
    EXPECT(teff_session_new(model, &o, &session), TEFF_ARGUMENT, "teff_session_options");
}

static void steps(teff_model *model, teff_session *session, uint32_t vocab, uint32_t context) {
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    float *logits = malloc(((size_t)vocab + 1) * sizeof *logits);
    uint32_t *many = calloc((size_t)context + 1, sizeof *many);
    uint32_t pair[2] = {1, 0}, finish = 77, back[4];
    const char *const no_stops[1] = {NULL};
    const char *const empty_stops[1] = {""};
    unsigned char *saved;
    char text[64];
    size_t n = 0, length = 0;
    if (logits == NULL || many == NULL) exit(2);
    pair[1] = vocab;
    EXPECT(teff_session_step(session, NULL, 2, TEFF_LOGITS_NONE, NULL, 0), TEFF_NULL, "`tokens`");
    EXPECT(teff_session_step(session, pair, 1, 3, logits, vocab), TEFF_ARGUMENT, "`want`");
    EXPECT(teff_session_step(session, pair, 1, TEFF_LOGITS_LAST, NULL, vocab), TEFF_NULL, "`logits`");
    EXPECT(teff_session_step(session, pair, 1, TEFF_LOGITS_LAST, logits, vocab - 1), TEFF_BUFFER, "`logits`");
    EXPECT(teff_session_step(session, pair, 1, TEFF_LOGITS_LAST, logits, SIZE_MAX), TEFF_ARGUMENT, "`logits`");
    EXPECT(teff_session_step(session, pair, 1, TEFF_LOGITS_LAST, (float *)(void *)((char *)logits + 1), vocab),
           TEFF_ARGUMENT, "multiple of 4");
    EXPECT(teff_session_step(session, pair, 2, TEFF_LOGITS_LAST, logits, vocab), TEFF_TOKEN, "vocabulary");
    EXPECT(teff_session_step(session, pair, 2, TEFF_LOGITS_ALL, logits, vocab), TEFF_ARGUMENT, "1");
    EXPECT(teff_session_step(session, pair, SIZE_MAX / 8, TEFF_LOGITS_ALL, logits, vocab), TEFF_CONTEXT, "");
    EXPECT(teff_session_step(session, many, (size_t)context + 1, TEFF_LOGITS_NONE, NULL, 0), TEFF_CONTEXT, "");
    EXPECT(teff_session_step(session, NULL, 0, TEFF_LOGITS_LAST, logits, vocab), TEFF_EMPTY, "");
    how.temperature = -1;
    EXPECT(teff_session_generate(session, "a", 1, &how, quiet, NULL, &finish), TEFF_ARGUMENT, "temperature");
    CHECK(finish == TEFF_FINISH_NONE);
    how.temperature = 0;
    how.reserved = 1;
    EXPECT(teff_session_generate(session, "a", 1, &how, quiet, NULL, NULL), TEFF_ARGUMENT, "`reserved`");
    how.reserved = 0;
    how.n_stop = 1;
    EXPECT(teff_session_generate(session, "a", 1, &how, quiet, NULL, NULL), TEFF_NULL, "`stop`");
    how.stop = no_stops;
    EXPECT(teff_session_generate(session, "a", 1, &how, quiet, NULL, NULL), TEFF_NULL, "`stop`");
    how.stop = empty_stops;
    EXPECT(teff_session_generate(session, "a", 1, &how, quiet, NULL, NULL), TEFF_ARGUMENT, "stop string 0");
    EXPECT(teff_session_generate_tokens(session, NULL, 0, NULL, quiet, NULL, NULL), TEFF_EMPTY, "prompt");
    EXPECT(teff_session_tokens(session, NULL, 0, &n), TEFF_OK, "");
    CHECK(n == 0); /* none of this has become part of the sequence */

    logits[vocab] = -7; /* nothing beyond the vocabulary is written */
    EXPECT(teff_session_step(session, pair, 1, TEFF_LOGITS_LAST, logits, (size_t)vocab + 1), TEFF_OK, "");
    CHECK(logits[vocab] == -7);
    EXPECT(teff_session_tokens(session, back, 0, &n), TEFF_BUFFER, "room for 1");
    EXPECT(teff_session_tokens(session, back, 4, &n), TEFF_OK, "");
    CHECK(n == 1 && back[0] == 1);
    /* Text to tokens and back, with buffers one too small and of exactly the right size. */
    EXPECT(teff_tokenize(model, "Once", 4, 0, NULL, 0, &n), TEFF_OK, "");
    CHECK(n > 0 && n <= 4);
    EXPECT(teff_tokenize(model, "Once", 4, 0, back, n - 1, &length), TEFF_BUFFER, "`tokens`");
    CHECK(length == n);
    EXPECT(teff_tokenize(model, "Once", 4, 0, back, n, &length), TEFF_OK, "");
    EXPECT(teff_detokenize(model, back, n, text, 4, &length), TEFF_BUFFER, "room for 5");
    EXPECT(teff_detokenize(model, back, n, text, 5, &length), TEFF_OK, "");
    CHECK(length == 4 && strcmp(text, "Once") == 0);
    /* A snapshot, a buffer one byte too small, and a damaged snapshot. */
    EXPECT(teff_session_save(session, NULL, 0, &n), TEFF_OK, "");
    saved = malloc(n);
    if (saved == NULL) exit(2);
    EXPECT(teff_session_save(session, saved, n - 1, &length), TEFF_BUFFER, "`bytes`");
    EXPECT(teff_session_save(session, saved, n, &length), TEFF_OK, "");
    EXPECT(teff_session_restore(session, saved, n - 1), TEFF_SNAPSHOT, "size");
    EXPECT(teff_session_restore(session, saved, n), TEFF_OK, "");
    saved[9] ^= 1;
    EXPECT(teff_session_restore(session, saved, n), TEFF_SNAPSHOT, "another model");
    EXPECT(teff_session_truncate(session, 0), TEFF_OK, "");
    free(saved);
    free(many);
    free(logits);
}

/* The same logits, to the last bit, from one step of three tokens, three steps of one, a fork, and a restored
 * session. */
static void same_bits(teff_model *model, size_t vocab) {
    static const uint32_t tokens[4] = {1, 2, 3, 5};
    teff_session_options options = TEFF_SESSION_OPTIONS_INIT;
    teff_session *all = NULL, *single = NULL, *fork = NULL;
    float *a = malloc(4 * vocab * sizeof *a), *b = malloc(vocab * sizeof *b);
    size_t row = vocab * sizeof *a, n = 0;
    unsigned char *saved;
    int i;
    if (a == NULL || b == NULL) exit(2);
    options.logits = 3;
    options.threads = 2;
    EXPECT(teff_session_new(model, &options, &all), TEFF_OK, "");
    options.threads = 1;
    options.backend = "scalar";
    EXPECT(teff_session_new(model, &options, &single), TEFF_OK, "");
    EXPECT(teff_session_step(all, tokens, 3, TEFF_LOGITS_ALL, a, 3 * vocab - 1), TEFF_BUFFER, "`logits`");
    EXPECT(teff_session_step(all, tokens, 3, TEFF_LOGITS_ALL, a, 3 * vocab), TEFF_OK, "");
    for (i = 0; i < 3; i++) {
        EXPECT(teff_session_step(single, tokens + i, 1, TEFF_LOGITS_LAST, b, vocab), TEFF_OK, "");
        CHECK(memcmp(a + (size_t)i * vocab, b, row) == 0);
    }
    EXPECT(teff_session_fork(all, &fork), TEFF_OK, "");
    EXPECT(teff_session_save(all, NULL, 0, &n), TEFF_OK, "");
    saved = malloc(n);
    if (saved == NULL) exit(2);
    EXPECT(teff_session_save(all, saved, n, &n), TEFF_OK, "");
    EXPECT(teff_session_step(all, tokens + 3, 1, TEFF_LOGITS_LAST, a, vocab), TEFF_OK, "");
    EXPECT(teff_session_step(fork, tokens + 3, 1, TEFF_LOGITS_LAST, b, vocab), TEFF_OK, "");
    CHECK(memcmp(a, b, row) == 0);
    EXPECT(teff_session_truncate(single, 0), TEFF_OK, "");
    EXPECT(teff_session_restore(single, saved, n), TEFF_OK, "");
    memset(b, 0, row);
    EXPECT(teff_session_step(single, tokens + 3, 1, TEFF_LOGITS_LAST, b, vocab), TEFF_OK, "");
    CHECK(memcmp(a, b, row) == 0);
    teff_session_free(fork);
    teff_session_free(single);
    teff_session_free(all);
    free(saved);
    free(b);
    free(a);
}

/* ---- Callbacks and threads ---- */

struct meeting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    teff_session *session;
    int stage;      /* 1: the callback was called; 2: it may return */
    int32_t status; /* of the generation */
    char text[64];  /* its error text */
};

static void reach(struct meeting *m, int stage) {
    pthread_mutex_lock(&m->lock);
    m->stage = stage;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static void await(struct meeting *m, int stage) {
    pthread_mutex_lock(&m->lock);
    while (m->stage < stage) pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

static int32_t hold_first(void *user, const char *text, size_t len) {
    struct meeting *m = user;
    (void)text, (void)len;
    if (m->stage == 0) {
        reach(m, 1);
        await(m, 2);
    }
    return 0;
}

static void *generate(void *user) {
    struct meeting *m = user;
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    how.max_tokens = 20;
    how.ignore_end = 1;
    m->status = teff_session_generate(m->session, "Once", 4, &how, hold_first, m, NULL);
    if (m->status != TEFF_OK) snprintf(m->text, sizeof m->text, "%s", teff_error_text());
    return NULL;
}

/* Two threads on one session, cancelling from another thread, and freeing during a call. */
static void threads(teff_model *model) {
    struct meeting m = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, 0, ""};
    teff_session_info info = TEFF_SESSION_INFO_INIT;
    pthread_t thread;
    size_t before = 0, after = 0;
    uint32_t token = 1;
    int freed;
    for (freed = 0; freed < 2; freed++) {
        EXPECT(teff_session_new(model, NULL, &m.session), TEFF_OK, "");
        m.stage = 0;
        if (pthread_create(&thread, NULL, generate, &m) != 0) exit(2);
        await(&m, 1);
        EXPECT(teff_session_step(m.session, &token, 1, TEFF_LOGITS_NONE, NULL, 0), TEFF_BUSY, "under way");
        EXPECT(teff_session_truncate(m.session, 0), TEFF_BUSY, "under way");
        EXPECT(teff_session_describe(m.session, &info), TEFF_OK, "");
        if (freed) {
            teff_session_free(m.session);
        } else {
            EXPECT(teff_session_cancel(m.session), TEFF_OK, "");
        }
        reach(&m, 2);
        pthread_join(thread, NULL);
        CHECK(m.status == TEFF_CANCELLED);
        CHECK(m.text[0] != 0);
        if (freed) break;
        EXPECT(teff_session_generate(m.session, "", 0, NULL, quiet, NULL, NULL), TEFF_CANCELLED, "");
        EXPECT(teff_session_resume(m.session), TEFF_OK, "");
        EXPECT(teff_session_tokens(m.session, NULL, 0, &before), TEFF_OK, "");
        m.stage = 2;
        generate(&m); /* continues from there */
        CHECK(m.status == TEFF_OK);
        EXPECT(teff_session_tokens(m.session, NULL, 0, &after), TEFF_OK, "");
        CHECK(after > before);
        EXPECT(teff_session_set_timeout(m.session, 0), TEFF_OK, "");
        EXPECT(teff_session_step(m.session, &token, 1, TEFF_LOGITS_NONE, NULL, 0), TEFF_CANCELLED, "");
        teff_session_free(m.session);
    }
}

struct again {
    teff_session *session;
    int32_t status;
};

/* Calls the session from its own callback, and frees it. */
static int32_t reenter(void *user, const char *text, size_t len) {
    struct again *a = user;
    if (text[len] != 0 || a->session == NULL) return 1;
    a->status = teff_session_generate(a->session, "a", 1, NULL, quiet, NULL, NULL);
    teff_session_free(a->session);
    a->session = NULL;
    return 0;
}

static int32_t stop_at_once(void *user, const char *text, size_t len) {
    *(size_t *)user += len + (text[len] == 0);
    return -1;
}

static void callbacks(teff_model *model) {
    struct again a = {NULL, TEFF_OK};
    teff_session *session = NULL;
    uint32_t finish = 77;
    size_t seen = 0;
    EXPECT(teff_session_new(model, NULL, &session), TEFF_OK, "");
    EXPECT(teff_session_generate(session, "Once", 4, NULL, stop_at_once, &seen, &finish), TEFF_OK, "");
    CHECK(finish == TEFF_FINISH_CALLBACK && seen > 1);
    a.session = session;
    EXPECT(teff_session_generate(session, "", 0, NULL, reenter, &a, &finish), TEFF_CANCELLED, "");
    CHECK(a.status == TEFF_BUSY && a.session == NULL);
    CHECK(finish == TEFF_FINISH_NONE);
}

struct gathered {
    char text[512];
    size_t len;
};

static int32_t gather(void *user, const char *text, size_t len) {
    struct gathered *to = user;
    if (len >= sizeof to->text - to->len) return 1;
    memcpy(to->text + to->len, text, len + 1);
    to->len += len;
    return 0;
}

/* The second half of a text ends it when it is a stop string, and is not passed on. */
static void stop_strings(teff_model *model) {
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    struct gathered all = {"", 0}, half = {"", 0};
    const char *stops[2] = {"never in such a text", NULL};
    teff_session *session = NULL;
    uint32_t finish = 77;
    size_t middle;
    how.temperature = 0;
    how.max_tokens = 20;
    how.ignore_end = 1;
    EXPECT(teff_session_new(model, NULL, &session), TEFF_OK, "");
    EXPECT(teff_session_generate(session, "Once", 4, &how, gather, &all, &finish), TEFF_OK, "");
    CHECK(finish == TEFF_FINISH_LENGTH && all.len > 8 && strlen(all.text) == all.len);
    for (middle = all.len / 2; (all.text[middle] & 0xc0) == 0x80; middle++) {}
    stops[1] = all.text + middle;
    how.stop = stops;
    how.n_stop = 2;
    EXPECT(teff_session_truncate(session, 0), TEFF_OK, "");
    EXPECT(teff_session_generate(session, "Once", 4, &how, gather, &half, &finish), TEFF_OK, "");
    CHECK(finish == TEFF_FINISH_STOP);
    CHECK(half.len == (size_t)(strstr(all.text, stops[1]) - all.text));
    CHECK(memcmp(half.text, all.text, half.len) == 0);
    teff_session_free(session);
}

struct writer {
    teff_session *session;
    int32_t status;
    uint32_t finish;
    size_t used;
    char text[2048];
};

static int32_t append(void *user, const char *text, size_t len) {
    struct writer *w = user;
    if (len >= sizeof w->text - w->used) return 1;
    memcpy(w->text + w->used, text, len + 1); /* including the terminating zero */
    w->used += len;
    return 0;
}

static void *write_text(void *user) {
    struct writer *w = user;
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    how.max_tokens = 30;
    how.seed = 5;
    w->status = teff_session_generate(w->session, "Once", 4, &how, append, w, &w->finish);
    return NULL;
}

/* Two concurrent sessions on one model, which is freed before they finish. */
static void sessions(const char *path) {
    static struct writer writers[2];
    teff_model *model = NULL;
    pthread_t threads[2];
    int i;
    EXPECT(teff_model_open(path, NULL, &model), TEFF_OK, "");
    for (i = 0; i < 2; i++) {
        EXPECT(teff_session_new(model, NULL, &writers[i].session), TEFF_OK, "");
    }
    for (i = 0; i < 2; i++) {
        if (pthread_create(&threads[i], NULL, write_text, &writers[i]) != 0) exit(2);
    }
    teff_model_free(model);
    for (i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(writers[i].status == TEFF_OK);
        CHECK(writers[i].used > 0 && writers[i].finish != TEFF_FINISH_NONE);
        teff_session_free(writers[i].session);
    }
    CHECK(strcmp(writers[0].text, writers[1].text) == 0);
}

int main(int argc, char **argv) {
    teff_model_info info = TEFF_MODEL_INFO_INIT;
    teff_session_options one = TEFF_SESSION_OPTIONS_INIT;
    teff_model *model = NULL, *in_place = NULL;
    teff_session *session = NULL;
    unsigned char *gguf;
    size_t len;
    if (argc != 3) {
        fprintf(stderr, "usage: misuse MODEL FOLDER\n");
        return 2;
    }
    CHECK(teff_error_text()[0] == 0);
    CHECK(strcmp(teff_version(), TEFF_VERSION) == 0);
    CHECK(strcmp(teff_status_name(TEFF_BUSY), "TEFF_BUSY") == 0);
    gguf = read_file(argv[1], &len);
    EXPECT(teff_model_open(argv[1], NULL, &model), TEFF_OK, "");
    if (gguf == NULL || model == NULL) return 2;
    EXPECT(teff_model_describe(model, &info), TEFF_OK, "");
    CHECK(info.has_tokenizer == 1 && info.parameters > 0 && info.architecture[0] != 0);
    one.threads = 1;
    EXPECT(teff_session_new(model, &one, &session), TEFF_OK, "");
    files(gguf, len, argv[2]);
    kinds(gguf, len);
    pointers(model, session);
    options(model, info.context);
    steps(model, session, info.vocabulary, info.context);
    same_bits(model, info.vocabulary);
    callbacks(model);
    stop_strings(model);
    threads(model);
    sessions(argv[1]);
    teff_session_free(session);
    teff_model_free(model);
    /* A model in the caller's memory, with a session that outlives its handle. */
    EXPECT(teff_model_open_bytes(gguf, len, NULL, &in_place), TEFF_OK, "");
    EXPECT(teff_session_new(in_place, &one, &session), TEFF_OK, "");
    teff_model_free(in_place);
    EXPECT(teff_session_generate(session, "Once", 4, NULL, quiet, NULL, NULL), TEFF_OK, "");
    teff_session_free(session);
    free(gguf);
    printf("%d not as expected\n", bad);
    return bad != 0;
}
