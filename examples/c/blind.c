/* blind: mistakes that no library can detect, for .ci/run capi: the address sanitizer must find each of them,
 * otherwise its silence about the other programs would prove nothing.
 *
 *     blind MODEL leak|buffer|freed|none
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "teff.h"

int main(int argc, char **argv) {
    teff_model *model = NULL;
    teff_session *session = NULL;
    size_t needed = 0;
    if (argc != 3 || teff_model_open(argv[1], NULL, &model) != TEFF_OK ||
        teff_session_new(model, NULL, &session) != TEFF_OK) {
        fprintf(stderr, "blind: %s\n", teff_error_text());
        return 2;
    }
    if (strcmp(argv[2], "buffer") == 0) { /* a buffer smaller than stated */
        uint32_t *tokens = malloc(sizeof *tokens);
        teff_tokenize(model, "Once", 4, 0, tokens, 4, &needed);
        free(tokens);
    }
    if (strcmp(argv[2], "leak") == 0) session = NULL; /* never freed */
    teff_session_free(session);
    if (strcmp(argv[2], "freed") == 0) teff_session_truncate(session, 0);
    teff_model_free(model);
    return 0;
}
