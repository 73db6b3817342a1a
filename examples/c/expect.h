/* expect.h: expectations of misuse.c and misuse_engines.c. */
#ifndef EXPECT_H
#define EXPECT_H

#include <stdio.h>
#include <string.h>

#include "teff.h"

static int bad = 0; /* number of failed expectations, on the main thread */

/* Expects a call to return `want`; if that is an error, its text must contain `says`. */
static void expect_at(int line, const char *call, int32_t got, int32_t want, const char *says) {
    const char *text = got == TEFF_OK ? "" : teff_error_text();
    int ok = got == want && (got == TEFF_OK || (text[0] != 0 && strstr(text, says) != NULL));
    printf("%s %-15s %s\n", ok ? "ok " : "BAD", teff_status_name(got), text);
    if (ok) return;
    printf("    line %d: %s: %s with \"%s\" was expected\n", line, call, teff_status_name(want), says);
    bad++;
}
#define EXPECT(call, want, says) expect_at(__LINE__, #call, (call), (want), (says))

static void check_at(int line, const char *what, int holds) {
    if (holds) return;
    printf("BAD line %d: %s\n", line, what);
    bad++;
}
#define CHECK(what) check_at(__LINE__, #what, (what))

#endif /* EXPECT_H */
