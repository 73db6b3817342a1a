/* misuse_engines: misuse of engines and their requests, as far as a library can detect it. Each must return its status
 * and an error text, and change nothing.
 *
 *     misuse_engines MODEL
 *
 * MODEL is a GGUF file with a tokenizer. Build it as story.c.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "teff.h"

struct gathered {
    char text[2048];
    size_t len;
};

static int32_t gather(void *user, const char *text, size_t len) {
    struct gathered *to = user;
    if (len >= sizeof to->text - to->len) return 1;
    memcpy(to->text + to->len, text, len + 1); /* including the terminating zero */
    to->len += len;
    return 0;
}

static void options(teff_model *model, uint32_t context) {
    teff_engine_options o = TEFF_ENGINE_OPTIONS_INIT;
    teff_engine_info info = TEFF_ENGINE_INFO_INIT, made = TEFF_ENGINE_INFO_INIT;
    teff_engine *engine = (teff_engine *)1;
    EXPECT(teff_engine_new(NULL, NULL, &engine), TEFF_NULL, "`model`");
    CHECK(engine == NULL);
    EXPECT(teff_engine_new(model, NULL, NULL), TEFF_NULL, "`engine`");
    EXPECT(teff_engine_memory(NULL, NULL, &info), TEFF_NULL, "`model`");
    EXPECT(teff_engine_memory(model, NULL, NULL), TEFF_NULL, "`info`");
    EXPECT(teff_engine_describe(NULL, &info), TEFF_NULL, "`engine`");
    info.size = 8;
    EXPECT(teff_engine_memory(model, NULL, &info), TEFF_ARGUMENT, "teff_engine_info");
    info.size = sizeof info;
    o.size = 8;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "teff_engine_options");
    o.size = sizeof o;
    o.reserved = 1;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "`reserved`");
    o.reserved = 0;
    o.threads = 257;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "257");
    o.threads = 1;
    o.kv = 9;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "`kv`");
    o.kv = TEFF_KV_F16;
    o.backend = "abacus";
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "abacus");
    o.backend = NULL;
    o.sequences = 100;
    o.batch = 99;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "99");
    o.batch = 0;
    o.sequences = SIZE_MAX;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "sequences");
    o.sequences = 2;
    o.queue = SIZE_MAX;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "queue");
    o.queue = 0;
    o.context = (size_t)context + 1;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_ARGUMENT, "context");
    o.context = context;
    o.cache = 1;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_BUDGET, "1 bytes");
    o.cache = 0;
    EXPECT(teff_engine_memory(model, &o, &info), TEFF_OK, "");
    CHECK(info.context == context && info.threads == 1 && info.pages > 0);
    o.cache = info.page_bytes;
    o.memory = info.total - 1;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_BUDGET, "bytes");
    CHECK(engine == NULL);
    o.memory = info.total;
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_OK, "");
    EXPECT(teff_engine_describe(engine, NULL), TEFF_NULL, "`info`");
    EXPECT(teff_engine_describe(engine, &made), TEFF_OK, "");
    CHECK(made.total == info.total && made.pages == info.pages);
    teff_engine_free(engine);
    teff_engine_free(NULL);
}

/* Takes all events of a request of one choice, and returns the finish. */
static uint32_t drain(teff_request *request) {
    teff_event event = TEFF_EVENT_INIT;
    uint32_t finish = TEFF_FINISH_NONE;
    do {
        EXPECT(teff_request_poll(request, TEFF_WAIT, &event), TEFF_OK, "");
        if (event.kind == TEFF_EVENT_FINISHED) finish = event.finish;
    } while (event.kind != TEFF_EVENT_END && event.kind != TEFF_EVENT_NONE);
    CHECK(event.kind == TEFF_EVENT_END);
    return finish;
}

static void submissions(teff_engine *engine, uint32_t vocab, uint32_t context) {
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    teff_engine_counts counts = TEFF_ENGINE_COUNTS_INIT;
    teff_event event = TEFF_EVENT_INIT;
    teff_request *request = (teff_request *)1;
    const char *const empty_stops[1] = {""};
    uint32_t *many = calloc((size_t)context + 1, sizeof *many);
    uint32_t pair[2] = {1, 0};
    if (many == NULL) exit(2);
    pair[1] = vocab;
    EXPECT(teff_engine_submit(NULL, pair, 1, NULL, 1, 0, 0, &request), TEFF_NULL, "`engine`");
    CHECK(request == NULL);
    EXPECT(teff_engine_submit(engine, pair, 1, NULL, 1, 0, 0, NULL), TEFF_NULL, "`request`");
    EXPECT(teff_engine_submit(engine, NULL, 2, NULL, 1, 0, 0, &request), TEFF_NULL, "`tokens`");
    EXPECT(teff_engine_submit(engine, NULL, 0, NULL, 1, 0, 0, &request), TEFF_EMPTY, "");
    EXPECT(teff_engine_submit(engine, pair, 2, NULL, 1, 0, 0, &request), TEFF_TOKEN, "vocabulary");
    EXPECT(teff_engine_submit(engine, many, (size_t)context + 1, NULL, 1, 0, 0, &request), TEFF_CONTEXT, "");
    EXPECT(teff_engine_submit(engine, pair, SIZE_MAX / 8, NULL, 1, 0, 0, &request), TEFF_CONTEXT, "");
    EXPECT(teff_engine_submit(engine, pair, SIZE_MAX, NULL, 1, 0, 0, &request), TEFF_ARGUMENT, "length");
    EXPECT(teff_engine_submit(engine, pair, 1, NULL, 0, 0, 0, &request), TEFF_ARGUMENT, "choices");
    EXPECT(teff_engine_submit(engine, pair, 1, NULL, 129, 0, 0, &request), TEFF_ARGUMENT, "choices");
    how.temperature = -1;
    EXPECT(teff_engine_submit(engine, pair, 1, &how, 1, 0, 0, &request), TEFF_ARGUMENT, "temperature");
    how.temperature = 0;
    how.stop = empty_stops;
    how.n_stop = 1;
    EXPECT(teff_engine_submit(engine, pair, 1, &how, 1, 0, 0, &request), TEFF_ARGUMENT, "stop string 0");
    how.n_stop = 0;
    how.size = 8;
    EXPECT(teff_engine_submit(engine, pair, 1, &how, 1, 0, 0, &request), TEFF_ARGUMENT, "options");
    how.size = sizeof how;
    CHECK(request == NULL);
    EXPECT(teff_engine_stats(NULL, &counts), TEFF_NULL, "`engine`");
    EXPECT(teff_engine_stats(engine, NULL), TEFF_NULL, "`counts`");
    EXPECT(teff_engine_stats(engine, &counts), TEFF_OK, "");
    CHECK(counts.requests == 0 && counts.sequences == 0 && counts.pages > 0);

    EXPECT(teff_request_poll(NULL, 0, &event), TEFF_NULL, "`request`");
    EXPECT(teff_request_cancel(NULL), TEFF_NULL, "`request`");
    teff_request_free(NULL);
    how.max_tokens = 4;
    EXPECT(teff_engine_submit(engine, pair, 1, &how, 1, 0, 0, &request), TEFF_OK, "");
    EXPECT(teff_request_poll(request, 0, NULL), TEFF_NULL, "`event`");
    event.size = 4;
    EXPECT(teff_request_poll(request, 0, &event), TEFF_ARGUMENT, "teff_event");
    CHECK(drain(request) != TEFF_FINISH_NONE);
    event.size = sizeof event;
    EXPECT(teff_request_poll(request, 0, &event), TEFF_OK, "");
    CHECK(event.kind == TEFF_EVENT_END && event.text[0] == 0 && event.tokens == NULL);
    EXPECT(teff_request_cancel(request), TEFF_OK, ""); /* it is over anyway */
    teff_request_free(request);
    /* Never polled. */
    EXPECT(teff_engine_submit(engine, pair, 1, &how, 3, 0, 0, &request), TEFF_OK, "");
    teff_request_free(request);
    EXPECT(teff_engine_stats(engine, &counts), TEFF_OK, "");
    CHECK(counts.requests == 2 && counts.sequences == 4);
    free(many);
}

/* The choices of a request are what sessions write with its seed and the next ones. */
static void same_texts(teff_model *model, teff_engine *engine) {
    static struct gathered all[3];
    teff_session_options one = TEFF_SESSION_OPTIONS_INIT;
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    teff_event event = TEFF_EVENT_INIT;
    teff_request *request = NULL;
    teff_session *session = NULL;
    struct gathered want;
    uint32_t prompt[8], tokens[3] = {0, 0, 0}, stage[3] = {0, 0, 0}, finish;
    size_t n = 0, generated = 0;
    int i;
    EXPECT(teff_tokenize(model, "Once", 4, TEFF_ADD_BOS, prompt, 8, &n), TEFF_OK, "");
    how.max_tokens = 30;
    how.seed = 7;
    EXPECT(teff_engine_submit(engine, prompt, n, &how, 3, 0, 1, &request), TEFF_OK, "");
    do {
        EXPECT(teff_request_poll(request, TEFF_WAIT, &event), TEFF_OK, "");
        if (event.kind == TEFF_EVENT_END) break;
        i = event.choice < 3 ? (int)event.choice : 0;
        switch (event.kind) {
        case TEFF_EVENT_PROMPT:
            CHECK(stage[i] == 0 && event.prompt_tokens == n && event.cached_tokens <= n);
            stage[i] = 1;
            break;
        case TEFF_EVENT_PIECE:
            CHECK(stage[i] == 1 && strlen(event.text) == event.len);
            CHECK(event.len > 0 || event.n_tokens > 0);
            CHECK(gather(&all[i], event.text, event.len) == 0);
            tokens[i] += (uint32_t)event.n_tokens;
            break;
        case TEFF_EVENT_FINISHED:
            CHECK(stage[i] == 1 && event.finish != TEFF_FINISH_NONE && event.generated == tokens[i]);
            generated += event.generated;
            stage[i] = 2;
            break;
        default:
            CHECK(!"an event of this kind");
        }
    } while (event.kind != TEFF_EVENT_NONE);
    CHECK(stage[0] == 2 && stage[1] == 2 && stage[2] == 2 && generated > 0);
    teff_request_free(request);
    one.threads = 1;
    EXPECT(teff_session_new(model, &one, &session), TEFF_OK, "");
    for (i = 0; i < 3; i++) {
        memset(&want, 0, sizeof want);
        how.seed = 7 + (uint64_t)i;
        EXPECT(teff_session_truncate(session, 0), TEFF_OK, "");
        EXPECT(teff_session_generate_tokens(session, prompt, n, &how, gather, &want, &finish), TEFF_OK, "");
        CHECK(want.len > 0 && strcmp(want.text, all[i].text) == 0);
    }
    CHECK(strcmp(all[0].text, all[1].text) != 0);
    teff_session_free(session);
}

static void *poll_to_the_end(void *user) {
    teff_request *request = user;
    teff_event event = TEFF_EVENT_INIT;
    int32_t status;
    do {
        status = teff_request_poll(request, TEFF_WAIT, &event);
    } while (status == TEFF_BUSY || (status == TEFF_OK && event.kind != TEFF_EVENT_END));
    return NULL;
}

/* Ends before the end: cancelled, too late, too many, the engine gone. Each is tried until it comes in time. */
static void ends(const char *path) {
    teff_engine_options o = TEFF_ENGINE_OPTIONS_INIT;
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    teff_event event = TEFF_EVENT_INIT;
    teff_engine *engine = NULL;
    teff_model *model = NULL;
    teff_request *request = NULL, *many[50];
    pthread_t thread;
    uint32_t token = 1, finish = TEFF_FINISH_NONE;
    int32_t status;
    int i, n, busy = 0, failed = 0;
    o.sequences = 1;
    o.queue = 2;
    how.ignore_end = 1;
    EXPECT(teff_model_open(path, NULL, &model), TEFF_OK, "");
    EXPECT(teff_engine_new(model, &o, &engine), TEFF_OK, "");
    teff_model_free(model); /* the engine keeps it */
    for (i = 0; i < 100 && finish != TEFF_FINISH_CANCELLED; i++) {
        EXPECT(teff_engine_submit(engine, &token, 1, &how, 1, 0, 0, &request), TEFF_OK, "");
        EXPECT(teff_request_cancel(request), TEFF_OK, "");
        finish = drain(request);
        teff_request_free(request);
    }
    CHECK(finish == TEFF_FINISH_CANCELLED);
    for (i = 0; i < 100 && finish != TEFF_FINISH_DEADLINE; i++) {
        EXPECT(teff_engine_submit(engine, &token, 1, &how, 1, 1, 0, &request), TEFF_OK, "");
        finish = drain(request);
        teff_request_free(request);
    }
    CHECK(finish == TEFF_FINISH_DEADLINE);
    /* Two threads poll one request. */
    for (i = 0; i < 100 && !busy; i++) {
        EXPECT(teff_engine_submit(engine, &token, 1, &how, 1, 0, 0, &request), TEFF_OK, "");
        if (pthread_create(&thread, NULL, poll_to_the_end, request) != 0) exit(2);
        do {
            status = teff_request_poll(request, 0, &event);
        } while (status == TEFF_OK && event.kind != TEFF_EVENT_END);
        if (status == TEFF_BUSY) {
            busy = 1;
            EXPECT(status, TEFF_BUSY, "another thread polls");
        }
        pthread_join(thread, NULL);
        teff_request_free(request);
    }
    CHECK(busy);
    /* One runs, two wait, and another one is refused. */
    for (n = 0, status = TEFF_OK; n < 50; n++) {
        status = teff_engine_submit(engine, &token, 1, &how, 1, 0, 0, &many[n]);
        if (status != TEFF_OK) break;
    }
    EXPECT(status, TEFF_BUSY, "2 requests wait");
    CHECK(n < 50 && many[n] == NULL);
    teff_engine_free(engine);
    for (i = 0; i < n; i++) {
        do {
            EXPECT(teff_request_poll(many[i], TEFF_WAIT, &event), TEFF_OK, "");
            if (event.kind != TEFF_EVENT_FAILED) continue;
            CHECK(event.status == TEFF_CANCELLED && strstr(event.text, "ended") != NULL);
            CHECK(strlen(event.text) == event.len);
            failed++;
        } while (event.kind != TEFF_EVENT_END && event.kind != TEFF_EVENT_NONE);
        teff_request_free(many[i]);
    }
    CHECK(failed > 0);
}

int main(int argc, char **argv) {
    teff_model_info info = TEFF_MODEL_INFO_INIT;
    teff_engine_options two = TEFF_ENGINE_OPTIONS_INIT;
    teff_model *model = NULL;
    teff_engine *engine = NULL;
    if (argc != 2) {
        fprintf(stderr, "usage: misuse_engines MODEL\n");
        return 2;
    }
    EXPECT(teff_model_open(argv[1], NULL, &model), TEFF_OK, "");
    if (model == NULL) return 2;
    EXPECT(teff_model_describe(model, &info), TEFF_OK, "");
    options(model, info.context);
    two.sequences = 2;
    EXPECT(teff_engine_new(model, &two, &engine), TEFF_OK, "");
    submissions(engine, info.vocabulary, info.context);
    same_texts(model, engine);
    teff_engine_free(engine);
    teff_model_free(model);
    ends(argv[1]);
    printf("%d not as expected\n", bad);
    return bad != 0;
}
