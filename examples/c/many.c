/* many: continues several prompts at once, by an engine.
 *
 *     many MODEL TOKENS PROMPT...
 *
 * The texts are the same as those of sessions, one after the other. Build it as story.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "teff.h"

#define MOST 64 /* prompts */

/* Prints the library's error text; returns the exit code. */
static int failed(const char *what, int32_t status) {
    fprintf(stderr, "many: %s: %s (%s)\n", what, teff_error_text(), teff_status_name(status));
    return 1;
}

/* Submits a prompt for a text of at most so many tokens. */
static int32_t submit(const teff_model *model, teff_engine *engine, const char *prompt, size_t most,
                      teff_request **request) {
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    uint32_t tokens[1024];
    size_t n = 0;
    int32_t status = teff_tokenize(model, prompt, strlen(prompt), TEFF_ADD_BOS, tokens, 1024, &n);
    if (status != TEFF_OK) return status;
    how.max_tokens = most;
    return teff_engine_submit(engine, tokens, n, &how, 1, 0, 0, request);
}

/* Prints a text as it comes. Texts that nobody looks at yet go on meanwhile. */
static int print(const char *prompt, teff_request *request) {
    teff_event event = TEFF_EVENT_INIT;
    int32_t status;
    fputs(prompt, stdout);
    do {
        status = teff_request_poll(request, TEFF_WAIT, &event);
        if (status != TEFF_OK) return failed(prompt, status);
        if (event.kind == TEFF_EVENT_PIECE) fwrite(event.text, 1, event.len, stdout);
        if (event.kind == TEFF_EVENT_FAILED) {
            fprintf(stderr, "many: %s: %s\n", prompt, event.text);
            return 1;
        }
    } while (event.kind != TEFF_EVENT_END);
    putchar('\n');
    return 0;
}

static int answer(const teff_model *model, size_t most, int n, char **prompts) {
    teff_engine_options options = TEFF_ENGINE_OPTIONS_INIT;
    teff_engine_info info = TEFF_ENGINE_INFO_INIT;
    teff_engine *engine = NULL;
    teff_request *requests[MOST] = {NULL};
    int32_t status;
    int i, rc = 0;

    options.sequences = 4; /* the others wait */
    status = teff_engine_memory(model, &options, &info);
    if (status != TEFF_OK) return failed("an engine's memory", status);
    fprintf(stderr, "(an engine takes %llu bytes)\n", (unsigned long long)info.total);
    status = teff_engine_new(model, &options, &engine);
    if (status != TEFF_OK) return failed("an engine", status);

    for (i = 0; i < n && rc == 0; i++) {
        status = submit(model, engine, prompts[i], most, &requests[i]);
        if (status != TEFF_OK) rc = failed(prompts[i], status);
    }
    for (i = 0; i < n && rc == 0; i++) rc = print(prompts[i], requests[i]);
    for (i = 0; i < n; i++) teff_request_free(requests[i]);
    teff_engine_free(engine);
    return rc;
}

int main(int argc, char **argv) {
    teff_model *model = NULL;
    size_t most = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 0;
    int32_t status;
    int rc;
    if (argc < 4 || argc - 3 > MOST || most == 0) {
        fprintf(stderr, "usage: many MODEL TOKENS PROMPT...\n");
        return 2;
    }
    status = teff_model_open(argv[1], NULL, &model);
    if (status != TEFF_OK) return failed("the model", status);
    rc = answer(model, most, argc - 3, argv + 3);
    teff_model_free(model);
    return rc;
}
