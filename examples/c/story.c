/* story: prints a story as the model generates it.
 *
 *     story MODEL PROMPT [TOKENS]
 *
 * Build it from the root of the repository (see teff.h for more):
 *
 *     cargo rustc --release -p teff-runtime --features capi --crate-type staticlib
 *     cc -O2 -I runtime/include examples/c/story.c target/release/libteff_runtime.a \
 *         -lpthread -lm -ldl -o story
 *     ./story examples/gpt2/model.gguf "Once upon a time"
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "teff.h"

/* Prints the library's error text; returns the exit code. */
static int failed(const char *what, int32_t status) {
    fprintf(stderr, "story: %s: %s (%s)\n", what, teff_error_text(), teff_status_name(status));
    return 1;
}

/* Prints a piece of text. Stops generation if standard output is closed. */
static int32_t print(void *user, const char *text, size_t len) {
    FILE *to = (FILE *)user;
    return fwrite(text, 1, len, to) != len || fflush(to) != 0;
}

/* Prints the memory requirements of a session, creates it and generates the story. */
static int tell(const teff_model *model, const char *prompt, size_t tokens) {
    teff_session_options options = TEFF_SESSION_OPTIONS_INIT;
    teff_generate_options how = TEFF_GENERATE_OPTIONS_INIT;
    teff_needs needs = TEFF_NEEDS_INIT;
    teff_session *session = NULL;
    uint32_t finish = TEFF_FINISH_NONE;
    int32_t status;

    status = teff_model_needs(model, &options, &needs);
    if (status != TEFF_OK) return failed("a session's memory", status);
    fprintf(stderr, "(a session takes %llu bytes)\n", (unsigned long long)needs.total);
    status = teff_session_new(model, &options, &session);
    if (status != TEFF_OK) return failed("a session", status);

    how.max_tokens = tokens;
    fputs(prompt, stdout);
    status = teff_session_generate(session, prompt, strlen(prompt), &how, print, stdout, &finish);
    putchar('\n');
    teff_session_free(session);
    if (status != TEFF_OK) return failed("the story", status);
    if (finish == TEFF_FINISH_CONTEXT) fputs("(the context is full)\n", stderr);
    return 0;
}

int main(int argc, char **argv) {
    teff_model_info info = TEFF_MODEL_INFO_INIT;
    teff_model *model = NULL;
    size_t tokens = 200;
    int32_t status;
    int rc;

    if (argc == 4) tokens = (size_t)strtoul(argv[3], NULL, 10);
    if (argc < 3 || argc > 4 || tokens == 0) {
        fprintf(stderr, "usage: story MODEL PROMPT [TOKENS]\n");
        return 2;
    }
    status = teff_model_open(argv[1], NULL, &model);
    if (status != TEFF_OK) return failed("the model", status);
    status = teff_model_describe(model, &info);
    if (status == TEFF_OK) {
        fprintf(stderr, "(teff %s: %s, %llu parameters, %lu tokens, context %lu)\n", teff_version(),
                info.architecture, (unsigned long long)info.parameters,
                (unsigned long)info.vocabulary, (unsigned long)info.context);
        rc = tell(model, argv[2], tokens);
    } else {
        rc = failed("the model", status);
    }
    teff_model_free(model);
    return rc;
}
