/* teff.h: transformer inference from C99 and C++.
 *
 * Build the library, from the root of Teff's repository (Rust 1.89 or newer, nothing else):
 *
 *     cargo rustc --release -p teff-runtime --features capi --crate-type staticlib
 *         -> target/release/libteff_runtime.a
 *     cargo rustc --release -p teff-runtime --features capi --crate-type cdylib
 *         -> target/release/libteff_runtime.so (.dylib, .dll)
 *
 * and link it. On Linux:
 *
 *     cc program.c -I runtime/include target/release/libteff_runtime.a -lpthread -lm -ldl
 *
 * (with gcc's runtime, which cc adds; add -- --print native-static-libs to the cargo command and it
 * says what your system needs). Add --config 'profile.release.panic="abort"' where a bug of Teff
 * may end the process: the library gets smaller, and TEFF_PANIC never comes.
 *
 * A first program:
 *
 *     #include <stdio.h>
 *     #include <string.h>
 *     #include "teff.h"
 *
 *     static int32_t print(void *user, const char *text, size_t len) {
 *         fwrite(text, 1, len, (FILE *)user);
 *         return 0;
 *     }
 *
 *     int main(void) {
 *         const char *prompt = "Once upon a time";
 *         teff_model *model = NULL;
 *         teff_session *session = NULL;
 *         int32_t status = teff_model_open("model.gguf", NULL, &model);
 *         if (status == TEFF_OK) status = teff_session_new(model, NULL, &session);
 *         if (status == TEFF_OK)
 *             status = teff_session_generate(session, prompt, strlen(prompt), NULL, print, stdout, NULL);
 *         if (status != TEFF_OK) fprintf(stderr, "%s\n", teff_error_text());
 *         teff_session_free(session);
 *         teff_model_free(model);
 *         return status != TEFF_OK;
 *     }
 *
 * Errors. Most functions return a status: TEFF_OK (0) or why nothing was done. teff_error_text() says
 * more, for a person: which file, which tensor, how many bytes. It belongs to the thread. New
 * statuses may come: take those that you don't know for errors. Unless it is said otherwise, a
 * function that fails has changed nothing.
 *
 * Ownership. What a function named _new, _open or _fork gives is yours: free it with the _free of its
 * kind, once; NULL may be freed. What you hand over stays yours, and Teff keeps no pointer to it after
 * the call (but for teff_model_open_bytes). A pointer that Teff gives you lives as long as is said
 * there; never free it. Free a model whenever you like: its sessions keep what they need of it.
 *
 * Pointers and lengths. NULL where something is needed, a pointer that is not aligned for its type, a
 * length that no memory can have, a text that is not UTF-8: each is an error. What no library can see is
 * whether a pointer points to as much as you say, or to something that was freed; that is up to you.
 * Lengths count elements of the pointer's type (bytes of text, tokens, floats). Texts have a length
 * and may have zeros in them; paths and names end with a zero. Where a function fills your buffer, it
 * writes the number that is needed to *needed, whether it fits or not (then the status is
 * TEFF_BUFFER, and the buffer is as before); with NULL and a capacity of 0 it only tells the number.
 *
 * Structs begin with their own size, so that later versions can add to them. Begin with the macro
 * of the same name and _INIT, and change what you want:
 *
 *     teff_session_options options = TEFF_SESSION_OPTIONS_INIT;
 *     options.threads = 2;
 *
 * Threads. Every function may be called from any thread. Models never change and may be used by any
 * number of threads. A session does one thing at a time: a call that comes while another is under way
 * gets TEFF_BUSY at once, and never waits. The same goes for a callback that calls the session which
 * called it. teff_session_cancel, _resume, _set_timeout, _describe and _free are never busy. Don't free
 * what another thread is about to use: neither a model in a call of its own, nor a session that a call
 * has not yet begun to use. A session's threads are its process's: after fork() the child makes sessions of its
 * own.
 *
 * Memory. A session's bytes are known before they are taken (teff_model_needs), and it takes no more for
 * its steps. Where the system refuses them, that is TEFF_MEMORY; small things (an error's text, a
 * list of tokens) end the process there, as everywhere in Rust's library.
 */
#ifndef TEFF_H
#define TEFF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. teff_version() is the library's. */
#define TEFF_VERSION "0.1.0"

/* What functions return, as int32_t. */
enum {
    TEFF_OK = 0,          /* done */
    TEFF_NULL = 1,        /* a pointer is NULL that must not be */
    TEFF_ARGUMENT = 2,    /* a value is out of range or contradicts another */
    TEFF_UTF8 = 3,        /* a text is not UTF-8 */
    TEFF_BUFFER = 4,      /* your buffer is too small */
    TEFF_IO = 5,          /* a file is not there or can't be read */
    TEFF_MODEL = 6,       /* a file is no model, or damaged */
    TEFF_UNSUPPORTED = 7, /* a model that Teff has no code for */
    TEFF_BUDGET = 8,      /* more memory is needed than you allow; none was taken */
    TEFF_MEMORY = 9,      /* the system refused memory */
    TEFF_THREADS = 10,    /* the system refused threads */
    TEFF_TOKENIZER = 11,  /* the model has no tokenizer, or it can't take this text */
    TEFF_TOKEN = 12,      /* a token that the vocabulary lacks */
    TEFF_CONTEXT = 13,    /* the context has no room for so many tokens */
    TEFF_EMPTY = 14,      /* there is nothing to compute or to continue */
    TEFF_CANCELLED = 15,  /* it was cancelled, or its time is over */
    TEFF_BUSY = 16,       /* another call on this session is under way */
    TEFF_SNAPSHOT = 17,   /* bytes that are no snapshot of such a session */
    TEFF_NUMBERS = 18,    /* logits that nothing can be drawn from: damaged weights */
    TEFF_PANIC = 19       /* an error inside Teff: please report it */
};

typedef struct teff_model teff_model;     /* a model: weights and tokenizer */
typedef struct teff_session teff_session; /* a text in the making, its cache, its threads */

/* The library's version, such as "0.1.0". It lives for ever. */
const char *teff_version(void);

/* What the last function that failed in this thread had to say; "" before the first. Never NULL.
 * Less than 1024 bytes of UTF-8. The next function that fails in this thread writes over it, and it
 * ends with the thread: copy it if you keep it. */
const char *teff_error_text(void);

/* The name of a status, such as "TEFF_BUSY". It lives for ever. */
const char *teff_status_name(int32_t status);

/* ---- Models ---- */

/* Flag: read files into memory. Without it they are mapped, and nobody may write or truncate them
 * while the model is in use (a truncated file ends the process). */
#define TEFF_LOAD_READ 1u
/* Flag: matrices are copied into an order that the backend reads faster, if it has one for their format: less
 * time for each token, the same bits, memory of the weights' size (it counts in the budget). The backend is the
 * one of sessions whose options name none; a session with one that has no such order is TEFF_ARGUMENT. */
#define TEFF_LOAD_REPACK 2u

/* How a model is opened. */
typedef struct teff_load_options {
    size_t size;          /* sizeof(teff_load_options) */
    uint64_t budget;      /* bytes that loading may take for read files and converted tensors; 0: any */
    const char *quantize; /* quantise plain matrices to this format, such as "Q4_0"; NULL: don't */
    const char *head;     /* the same for the head alone */
    uint32_t flags;       /* TEFF_LOAD_READ and TEFF_LOAD_REPACK, or 0 */
    uint32_t reserved;    /* 0 */
} teff_load_options;
#define TEFF_LOAD_OPTIONS_INIT { sizeof(teff_load_options), 0, NULL, NULL, 0, 0 }

/* Opens a GGUF file or a Hugging Face folder. A path is bytes on Unix and UTF-8 elsewhere. options may be
 * NULL: the defaults. On failure *model is NULL. */
int32_t teff_model_open(const char *path, const teff_load_options *options, teff_model **model);

/* A model from the bytes of a GGUF file that you have in memory. They are used where they lie:
 * they must stay, unchanged, until the model and all of its sessions have been freed. */
int32_t teff_model_open_bytes(const uint8_t *bytes, size_t len, const teff_load_options *options,
                              teff_model **model);

/* Frees a model. Its sessions go on. */
void teff_model_free(teff_model *model);

#define TEFF_NO_TOKEN UINT32_MAX

/* What there is to know of a model. */
typedef struct teff_model_info {
    size_t size;              /* sizeof(teff_model_info): set it before the call */
    const char *architecture; /* such as "llama"; it lives as long as the model */
    const char *name;         /* "" where it has none; it lives as long as the model */
    uint64_t parameters;      /* every layer counted */
    uint64_t file_bytes;      /* of the files with the weights */
    uint64_t weight_bytes;    /* of all weights, in place or not */
    uint64_t owned_bytes;     /* memory that the model took for itself; mapped files don't count */
    uint32_t vocabulary;      /* tokens: 0 to vocabulary - 1. A step has as many logits */
    uint32_t context;         /* positions that the model was made for */
    uint32_t layers;
    uint32_t width;           /* elements of a token's vector */
    uint32_t bos;             /* begins texts; or TEFF_NO_TOKEN */
    uint32_t eos;             /* ends texts; or TEFF_NO_TOKEN */
    uint32_t has_tokenizer;   /* 1, or 0: then only tokens can be given to sessions */
    uint32_t reserved;        /* 0 */
} teff_model_info;
#define TEFF_MODEL_INFO_INIT { sizeof(teff_model_info), NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

int32_t teff_model_describe(const teff_model *model, teff_model_info *info);

/* How a session's cache stores keys and values. */
enum {
    TEFF_KV_F32 = 0, /* 4 bytes each, no loss */
    TEFF_KV_F16 = 1, /* 2 bytes */
    TEFF_KV_Q8 = 2   /* 1 byte, and a scale for each position of a head */
};

/* What a session is to be. */
typedef struct teff_session_options {
    size_t size;         /* sizeof(teff_session_options) */
    size_t context;      /* positions of the cache; 0: as many as the model was made for */
    size_t batch;        /* most tokens of one pass through the model; 0: 512 */
    size_t logits;       /* most tokens whose logits a step can give: TEFF_LOGITS_ALL; 0: 1 */
    uint64_t budget;     /* bytes that the session may take; 0: any */
    /* "scalar", "avx2", "neon", ...; NULL: whom the environment variable TEFF_BACKEND names, else
       the best of this machine */
    const char *backend;
    uint32_t threads;    /* the caller's included, at most 256; 0: one for every core */
    uint32_t kv;         /* TEFF_KV_F32, TEFF_KV_F16 or TEFF_KV_Q8 */
} teff_session_options;
#define TEFF_SESSION_OPTIONS_INIT { sizeof(teff_session_options), 0, 0, 0, 0, NULL, 0, TEFF_KV_F32 }

/* The bytes that a session takes. */
typedef struct teff_needs {
    size_t size;          /* sizeof(teff_needs): set it before the call */
    uint64_t total;       /* all of the following */
    uint64_t cache;       /* the KV cache: grows with context */
    uint64_t arena;       /* what a step works in: grows with batch and logits */
    uint64_t threads_own; /* what threads work in, all together (their stacks don't count) */
    uint64_t tables;      /* the plan, the table of weights, room for the text's tokens */
    uint32_t threads;     /* how many */
    uint32_t reserved;    /* 0 */
} teff_needs;
#define TEFF_NEEDS_INIT { sizeof(teff_needs), 0, 0, 0, 0, 0, 0, 0 }

/* The bytes that teff_session_new would take with the same options (NULL: the defaults). Takes none
 * itself but for the plan. */
int32_t teff_model_needs(const teff_model *model, const teff_session_options *options,
                         teff_needs *needs);

/* ---- Text and tokens ---- */

/* Flag: names of special tokens in the text, such as <|im_end|>, become those tokens. Right for what
 * your program put together; wrong for what a user wrote. */
#define TEFF_PARSE_SPECIAL 1u
/* Flag: the token that texts begin with comes first, where the model wants one. */
#define TEFF_ADD_BOS 2u

/* The tokens of a text of len bytes. */
int32_t teff_tokenize(const teff_model *model, const char *text, size_t len, uint32_t flags,
                      uint32_t *tokens, size_t capacity, size_t *needed);

/* The text of n tokens. *needed is its bytes without the zero that is put behind it: the
 * capacity must be at least *needed + 1. What is no UTF-8 becomes U+FFFD. */
int32_t teff_detokenize(const teff_model *model, const uint32_t *tokens, size_t n, char *text,
                        size_t capacity, size_t *needed);

/* The bytes of one token, perhaps a part of a character; they live as long as the model. */
int32_t teff_token_bytes(const teff_model *model, uint32_t token, const uint8_t **bytes,
                         size_t *len);

/* 1 where a model that gives this token has ended its text or turn; else 0 (on errors too). */
int32_t teff_token_ends(const teff_model *model, uint32_t token);

/* ---- Sessions ---- */

/* A new session, with threads of its own. options may be NULL: the defaults. On failure *session
 * is NULL, and nothing is kept. */
int32_t teff_session_new(const teff_model *model, const teff_session_options *options,
                         teff_session **session);

/* Another session with the same options that goes on from the same text, independently. */
int32_t teff_session_fork(teff_session *session, teff_session **fork);

/* Frees a session. A call that is using it (in another thread, or the one whose callback frees it)
 * is cancelled, and the memory goes when it returns. */
void teff_session_free(teff_session *session);

/* What a session is. */
typedef struct teff_session_info {
    size_t size;         /* sizeof(teff_session_info): set it before the call */
    uint64_t bytes;      /* that it took */
    const char *backend; /* who computes; it lives as long as the session */
    size_t context;      /* positions of the cache */
    size_t batch;        /* most tokens of one pass */
    size_t logits;       /* most tokens whose logits a step can give */
    uint32_t threads;
    uint32_t kv;         /* TEFF_KV_... */
} teff_session_info;
#define TEFF_SESSION_INFO_INIT { sizeof(teff_session_info), 0, NULL, 0, 0, 0, 0, 0 }

int32_t teff_session_describe(const teff_session *session, teff_session_info *info);

/* Which logits a step gives. */
enum {
    TEFF_LOGITS_NONE = 0, /* none: the text gets into the cache, no more */
    TEFF_LOGITS_LAST = 1, /* those after the last token: vocabulary floats */
    TEFF_LOGITS_ALL = 2   /* those after each token, in order: n * vocabulary floats */
};

/* Appends n tokens to the text, computes them, and copies the wanted logits into your buffer of
 * capacity floats. The buffer is yours: the next step doesn't touch it. With TEFF_LOGITS_NONE logits
 * may be NULL. TEFF_LOGITS_ALL takes at most options.logits tokens at a time.
 *
 * After TEFF_CANCELLED the tokens are part of the text, still to be computed: teff_session_resume, and a
 * step with n = 0 goes on where it stopped, with the same bits (tokens that are pending count as this
 * step's). After any other error the text is as before. */
int32_t teff_session_step(teff_session *session, const uint32_t *tokens, size_t n, uint32_t want,
                          float *logits, size_t capacity);

/* How to continue a text. */
typedef struct teff_generate_options {
    size_t size;            /* sizeof(teff_generate_options) */
    size_t max_tokens;      /* 0: until the model ends the text or the context is full */
    uint64_t seed;          /* the same seed gives the same text on every machine */
    float temperature;      /* divides the logits; 0: always the most likely token */
    float top_p;            /* the share of probability that stays, above 0; 1 is off */
    float min_p;            /* the least probability that stays, as a share of the largest; 0 is off */
    float repeat_penalty;   /* divides logits of recent tokens; 1 is off */
    uint32_t top_k;         /* how many of the largest logits stay; 0 is off */
    uint32_t repeat_last_n; /* how many tokens at the end of the text are recent */
    uint32_t ignore_end;    /* not 0: go on where the model would end the text */
    uint32_t reserved;      /* 0 */
} teff_generate_options;
#define TEFF_GENERATE_OPTIONS_INIT \
    { sizeof(teff_generate_options), 0, 0, 0.8f, 0.95f, 0.05f, 1.0f, 40, 64, 0, 0 }

/* Why a generation ended, as uint32_t. */
enum {
    TEFF_FINISH_NONE = 0,    /* it failed */
    TEFF_FINISH_LENGTH = 1,  /* max_tokens */
    TEFF_FINISH_END = 2,     /* the model ended the text */
    TEFF_FINISH_CONTEXT = 3, /* the context is full */
    TEFF_FINISH_CALLBACK = 4 /* the callback said so */
};

/* Gets a piece of the text as soon as it is there: len bytes of UTF-8, whole characters, with a zero
 * behind them; they live until it returns. Not 0 ends the generation. It runs in the thread that
 * called teff_session_generate. It must return: no longjmp and no exception out of it (an exception ends
 * the process). It may call Teff; with this session only what is never busy, or it gets
 * TEFF_BUSY. */
typedef int32_t (*teff_on_text)(void *user, const char *text, size_t len);

/* Appends the prompt to the text (after the token that texts begin with, where it is the first and the
 * model wants one) and continues it, a piece at a time. user is handed to on_text as it is. options may
 * be NULL: the defaults. Why it ended goes to *finish, unless finish is NULL.
 *
 * The text stays in the session: call it again with the next prompt, or with "" and a length of 0 to go
 * on, also after TEFF_CANCELLED (and teff_session_resume) and after TEFF_FINISH_CALLBACK. A character of which
 * only some tokens have come is not given out then. An error before the first piece (of options, of
 * the prompt, of the context's room) leaves the text as it was; a later one, what came so far. */
int32_t teff_session_generate(teff_session *session, const char *prompt, size_t len,
                              const teff_generate_options *options, teff_on_text on_text,
                              void *user, uint32_t *finish);

/* The same with a prompt of n tokens, to which nothing is added. */
int32_t teff_session_generate_tokens(teff_session *session, const uint32_t *tokens, size_t n,
                                     const teff_generate_options *options, teff_on_text on_text,
                                     void *user, uint32_t *finish);

/* Makes the step under way end with TEFF_CANCELLED within milliseconds, and all to come until
 * teff_session_resume. Meant for other threads; never busy. */
int32_t teff_session_cancel(teff_session *session);

/* Takes cancellation and time limit back. Never busy. */
int32_t teff_session_resume(teff_session *session);

/* Cancels by itself when so many milliseconds have passed from now on. Never busy. */
int32_t teff_session_set_timeout(teff_session *session, uint64_t milliseconds);

/* The tokens of the text, those still to be computed included. */
int32_t teff_session_tokens(const teff_session *session, uint32_t *tokens, size_t capacity,
                            size_t *needed);

/* Takes the text back to its first len tokens; 0 begins anew. More than there are changes nothing. */
int32_t teff_session_truncate(teff_session *session, size_t len);

/* The text and its cache as bytes, for as many positions as are computed. (The bytes are put together in
 * memory of Teff's first, also where only their number is asked for.) */
int32_t teff_session_save(const teff_session *session, uint8_t *bytes, size_t capacity,
                          size_t *needed);

/* Replaces the text and its cache by saved ones: of the same model and kv; context, threads and backend may
 * differ, and the bits of what follows don't. */
int32_t teff_session_restore(teff_session *session, const uint8_t *bytes, size_t len);

#ifdef __cplusplus
}
#endif

#endif /* TEFF_H */
