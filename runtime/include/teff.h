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
 * (with gcc's runtime, which cc adds; with -- --print native-static-libs, the cargo command prints
 * the libraries that your system needs). Add --config 'profile.release.panic="abort"' if a bug in
 * Teff may end the process: the library gets smaller, and TEFF_PANIC is never returned.
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
 * Errors. Most functions return a status: TEFF_OK (0), or the reason for a failure. teff_error_text()
 * gives the details in readable form: which file, which tensor, how many bytes. It is kept per thread.
 * Later versions may add statuses: treat unknown ones as errors. Unless documented otherwise, a
 * function that fails has changed nothing.
 *
 * Ownership. Objects returned by functions named _new, _open, _fork or _submit are yours: free each with
 * the _free of its kind, once; NULL may be freed. Arguments remain yours, and Teff keeps no pointer to
 * them after the call (except for teff_model_open_bytes). A pointer returned by Teff lives as long as
 * documented; never free it. Free a model at any time: its sessions and engines keep what they need of
 * it. Free an engine at any time: its requests can be polled still, and have ended.
 *
 * Pointers and lengths. NULL where a value is required, a pointer that is not aligned for its type, a
 * length that no memory can hold, a text that is not UTF-8: each is an error. No library can detect a
 * pointer to fewer elements than stated, or to freed memory; avoiding that is up to you.
 * Lengths count elements of the pointer's type (bytes of text, tokens, floats). Texts have a length
 * and may contain zeros; paths and names end with a zero. Functions that fill a buffer write the
 * required number of elements to *needed, whether they fit or not (if not, the status is
 * TEFF_BUFFER, and the buffer is unchanged); NULL with a capacity of 0 queries the number only.
 *
 * Structs begin with their own size, so that later versions can extend them. Initialise them with the
 * macro of the same name and _INIT, and change the fields you need:
 *
 *     teff_session_options options = TEFF_SESSION_OPTIONS_INIT;
 *     options.threads = 2;
 *
 * Threads. Every function may be called from any thread. Models never change and may be used by any
 * number of threads. A session does one thing at a time: a call while another is in progress returns
 * TEFF_BUSY at once, and never waits. The same applies to a callback that calls the session which
 * called it. teff_session_cancel, _resume, _set_timeout, _describe and _free are never busy. Any number of
 * threads may use an engine at the same time. A request is polled by one thread at a time: another poll
 * returns TEFF_BUSY; teff_request_cancel and _free are never busy. Don't free an object that another
 * thread is about to use: neither a model in a call of its own, nor an object that a call has not yet
 * begun to use. The threads of a session or engine belong to its process: after fork(), the child must
 * create its own.
 *
 * Memory. The bytes of a session are known before they are allocated (teff_model_needs), and its steps
 * allocate no more; the same holds for an engine (teff_engine_memory), except for the prompts of its
 * requests and the text that was not taken from them. If the system refuses them, the status is
 * TEFF_MEMORY; failing to allocate small objects (an error's text, a list of tokens) ends the process, as
 * in all of Rust's library.
 */
#ifndef TEFF_H
#define TEFF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this header; teff_version() is that of the library. */
#define TEFF_VERSION "0.1.0"

/* Status returned by functions, as int32_t. */
enum {
    TEFF_OK = 0,          /* success */
    TEFF_NULL = 1,        /* a pointer is NULL but must not be */
    TEFF_ARGUMENT = 2,    /* a value is out of range or contradicts another */
    TEFF_UTF8 = 3,        /* a text is not UTF-8 */
    TEFF_BUFFER = 4,      /* the buffer is too small */
    TEFF_IO = 5,          /* a file does not exist or can't be read */
    TEFF_MODEL = 6,       /* a file is not a model, or is damaged */
    TEFF_UNSUPPORTED = 7, /* the model is not supported */
    TEFF_BUDGET = 8,      /* the budget is too small; nothing was allocated */
    TEFF_MEMORY = 9,      /* the system failed to allocate memory */
    TEFF_THREADS = 10,    /* the system failed to start a thread */
    TEFF_TOKENIZER = 11,  /* the model has no tokenizer, or it can't encode this text */
    TEFF_TOKEN = 12,      /* a token is outside the vocabulary */
    TEFF_CONTEXT = 13,    /* the context has no room for the tokens */
    TEFF_EMPTY = 14,      /* there is nothing to compute or to continue */
    TEFF_CANCELLED = 15,  /* cancelled, or timed out */
    TEFF_BUSY = 16,       /* another call on this object is in progress, or too many requests wait */
    TEFF_SNAPSHOT = 17,   /* the bytes are not a snapshot for this session */
    TEFF_NUMBERS = 18,    /* the logits allow no sampling: damaged weights */
    TEFF_PANIC = 19       /* a bug in Teff: please report it */
};

typedef struct teff_model teff_model;     /* model: weights and tokenizer */
typedef struct teff_session teff_session; /* session: a text, its cache, its threads */
typedef struct teff_engine teff_engine;   /* engine: many texts at once, with one cache */
typedef struct teff_request teff_request; /* request to an engine, and what it has computed for it */

/* Version of the library, such as "0.1.0". The string is static. */
const char *teff_version(void);

/* Text of the last error in this thread; "" before the first. Never NULL, and less than 1024 bytes of
 * UTF-8. The next error in this thread overwrites it, and it lives as long as the thread: copy it to
 * keep it. */
const char *teff_error_text(void);

/* Name of a status, such as "TEFF_BUSY". The string is static. */
const char *teff_status_name(int32_t status);

/* ---- Models ---- */

/* Flag: read files into memory. Otherwise they are mapped, and must not be written or truncated while
 * the model is in use (a truncated file ends the process). */
#define TEFF_LOAD_READ 1u
/* Flag: copy matrices into the order that the backend reads fastest, if it has one for their format. Tokens
 * take less time, with the same bits and with memory of the weights' size (it counts in the budget). The backend
 * is the one of sessions whose options name none; a session with one that lacks this order is TEFF_ARGUMENT. */
#define TEFF_LOAD_REPACK 2u

/* Options of opening a model. */
typedef struct teff_load_options {
    size_t size;          /* sizeof(teff_load_options) */
    uint64_t budget;      /* maximum bytes for read files and converted tensors; 0: no limit */
    const char *quantize; /* quantise plain matrices to this format, such as "Q4_0"; NULL: unchanged */
    const char *head;     /* quantise the head to this format; NULL: unchanged */
    uint32_t flags;       /* TEFF_LOAD_READ and TEFF_LOAD_REPACK, or 0 */
    uint32_t reserved;    /* 0 */
} teff_load_options;
#define TEFF_LOAD_OPTIONS_INIT { sizeof(teff_load_options), 0, NULL, NULL, 0, 0 }

/* Opens a GGUF file or a Hugging Face folder. A path is bytes on Unix and UTF-8 elsewhere. If options is
 * NULL, the defaults are used. On failure, *model is NULL. */
int32_t teff_model_open(const char *path, const teff_load_options *options, teff_model **model);

/* Opens a model from the bytes of a GGUF file in memory. They are used in place: they must stay there,
 * unchanged, until the model and all of its sessions have been freed. */
int32_t teff_model_open_bytes(const uint8_t *bytes, size_t len, const teff_load_options *options,
                              teff_model **model);

/* Frees a model. Its sessions remain valid. */
void teff_model_free(teff_model *model);

#define TEFF_NO_TOKEN UINT32_MAX

/* Description of a model. */
typedef struct teff_model_info {
    size_t size;              /* sizeof(teff_model_info): set it before the call */
    const char *architecture; /* such as "llama"; it lives as long as the model */
    const char *name;         /* "" if it has none; it lives as long as the model */
    uint64_t parameters;      /* number, of all layers */
    uint64_t file_bytes;      /* of the files with the weights */
    uint64_t weight_bytes;    /* of all weights, in place or converted */
    uint64_t owned_bytes;     /* allocated by the model; mapped files don't count */
    uint32_t vocabulary;      /* tokens: 0 to vocabulary - 1; also the number of logits */
    uint32_t context;         /* context length that the model was trained for */
    uint32_t layers;
    uint32_t width;           /* of the residual stream */
    uint32_t bos;             /* token that begins texts, or TEFF_NO_TOKEN */
    uint32_t eos;             /* token that ends texts, or TEFF_NO_TOKEN */
    uint32_t has_tokenizer;   /* 1, or 0 if sessions can only be given tokens */
    uint32_t reserved;        /* 0 */
} teff_model_info;
#define TEFF_MODEL_INFO_INIT { sizeof(teff_model_info), NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

int32_t teff_model_describe(const teff_model *model, teff_model_info *info);

/* Format of keys and values in a session's cache. */
enum {
    TEFF_KV_F32 = 0, /* 4 bytes each, no loss */
    TEFF_KV_F16 = 1, /* 2 bytes */
    TEFF_KV_Q8 = 2   /* 1 byte, and a scale for each position of a head */
};

/* Options of a session. */
typedef struct teff_session_options {
    size_t size;         /* sizeof(teff_session_options) */
    size_t context;      /* positions of the cache; 0: the model's context */
    size_t batch;        /* maximum tokens of one pass through the model; 0: 512 */
    size_t logits;       /* maximum rows of logits of a step (TEFF_LOGITS_ALL); 0: 1 */
    uint64_t budget;     /* maximum bytes of the session; 0: no limit */
    /* "scalar", "avx2", "neon", ...; NULL: the one named by the environment variable TEFF_BACKEND,
       or otherwise the best of this machine */
    const char *backend;
    uint32_t threads;    /* including the caller's, at most 256; 0: one per core; more than the
                            * process may run on (affinity, quota) count as that many */
    uint32_t kv;         /* TEFF_KV_F32, TEFF_KV_F16 or TEFF_KV_Q8 */
} teff_session_options;
#define TEFF_SESSION_OPTIONS_INIT { sizeof(teff_session_options), 0, 0, 0, 0, NULL, 0, TEFF_KV_F32 }

/* Bytes that a session takes. */
typedef struct teff_needs {
    size_t size;          /* sizeof(teff_needs): set it before the call */
    uint64_t total;       /* all of the following */
    uint64_t cache;       /* the KV cache: grows with context */
    uint64_t arena;       /* working memory of a step: grows with batch and logits */
    uint64_t threads_own; /* working memory of all threads (without their stacks) */
    uint64_t tables;      /* the plan, the table of weights, room for the text's tokens */
    uint32_t threads;     /* number of threads */
    uint32_t reserved;    /* 0 */
} teff_needs;
#define TEFF_NEEDS_INIT { sizeof(teff_needs), 0, 0, 0, 0, 0, 0, 0 }

/* Bytes that teff_session_new would take with the same options (NULL: the defaults). It allocates only
 * the plan. */
int32_t teff_model_needs(const teff_model *model, const teff_session_options *options,
                         teff_needs *needs);

/* ---- Text and tokens ---- */

/* Flag: turn names of special tokens in the text, such as <|im_end|>, into those tokens. Right for text
 * that your program assembles, wrong for text that a user writes. */
#define TEFF_PARSE_SPECIAL 1u
/* Flag: begin with the BOS token, if the model wants one. */
#define TEFF_ADD_BOS 2u

/* Tokenizes a text of len bytes. */
int32_t teff_tokenize(const teff_model *model, const char *text, size_t len, uint32_t flags,
                      uint32_t *tokens, size_t capacity, size_t *needed);

/* Writes the text of n tokens, with a terminating zero. *needed is its length without the zero: the
 * capacity must be at least *needed + 1. Bytes that are not UTF-8 become U+FFFD. */
int32_t teff_detokenize(const teff_model *model, const uint32_t *tokens, size_t n, char *text,
                        size_t capacity, size_t *needed);

/* Returns the bytes of one token, perhaps a part of a character; they live as long as the model. */
int32_t teff_token_bytes(const teff_model *model, uint32_t token, const uint8_t **bytes,
                         size_t *len);

/* Returns 1 if this token ends the text or turn of the model, otherwise 0 (also on errors). */
int32_t teff_token_ends(const teff_model *model, uint32_t token);

/* ---- Sessions ---- */

/* Creates a session with its own threads. If options is NULL, the defaults are used. On failure,
 * *session is NULL, and nothing is kept. */
int32_t teff_session_new(const teff_model *model, const teff_session_options *options,
                         teff_session **session);

/* Creates a session with the same options that continues the same text independently. */
int32_t teff_session_fork(teff_session *session, teff_session **fork);

/* Frees a session. A call that is using it (in another thread, or the one whose callback frees it) is
 * cancelled, and the memory is freed when it returns. */
void teff_session_free(teff_session *session);

/* Description of a session. */
typedef struct teff_session_info {
    size_t size;         /* sizeof(teff_session_info): set it before the call */
    uint64_t bytes;      /* bytes that it took */
    const char *backend; /* its name; it lives as long as the session */
    size_t context;      /* positions of the cache */
    size_t batch;        /* maximum tokens of one pass */
    size_t logits;       /* maximum rows of logits of a step */
    uint32_t threads;
    uint32_t kv;         /* TEFF_KV_... */
} teff_session_info;
#define TEFF_SESSION_INFO_INIT { sizeof(teff_session_info), 0, NULL, 0, 0, 0, 0, 0 }

int32_t teff_session_describe(const teff_session *session, teff_session_info *info);

/* Logits that a step returns. */
enum {
    TEFF_LOGITS_NONE = 0, /* none: only the cache is updated */
    TEFF_LOGITS_LAST = 1, /* those after the last token: vocabulary floats */
    TEFF_LOGITS_ALL = 2   /* those after each token, in order: n * vocabulary floats */
};

/* Appends n tokens to the text, computes them, and copies the selected logits into your buffer of
 * capacity floats. The buffer is yours: the next step doesn't touch it. With TEFF_LOGITS_NONE, logits
 * may be NULL. TEFF_LOGITS_ALL allows at most options.logits tokens at a time.
 *
 * After TEFF_CANCELLED, the tokens are part of the text, still to be computed: after
 * teff_session_resume, a step with n = 0 continues where it stopped, with the same bits (pending tokens
 * count as tokens of this step). After any other error, the text is unchanged. */
int32_t teff_session_step(teff_session *session, const uint32_t *tokens, size_t n, uint32_t want,
                          float *logits, size_t capacity);

/* Options of generating text. */
typedef struct teff_generate_options {
    size_t size;            /* sizeof(teff_generate_options) */
    size_t max_tokens;      /* 0: until the model ends the text or the context is full */
    uint64_t seed;          /* the same seed gives the same text on every machine */
    float temperature;      /* divides the logits; 0: always the most likely token */
    float top_p;            /* share of probability that is kept, above 0; 1 is off */
    float min_p;            /* smallest probability kept, as a share of the largest; 0 is off */
    float repeat_penalty;   /* divides logits of recent tokens; 1 is off */
    float presence_penalty; /* is subtracted from logits of recent tokens; 0 is off */
    float frequency_penalty; /* the same for each time that they occur; 0 is off */
    uint32_t top_k;         /* number of largest logits kept; 0 is off */
    uint32_t repeat_last_n; /* tokens at the end of the text that are recent; UINT32_MAX: all */
    uint32_t ignore_end;    /* not 0: continue after the model ends the text */
    uint32_t reserved;      /* 0 */
    /* n_stop texts with terminating zeros, none of them empty: the first that is completed ends the
       text, and is not passed on. What may be the beginning of one is held back until that is known.
       NULL if n_stop is 0. */
    const char *const *stop;
    size_t n_stop;
} teff_generate_options;
#define TEFF_GENERATE_OPTIONS_INIT \
    { sizeof(teff_generate_options), 0, 0, 0.8f, 0.95f, 0.05f, 1.0f, 0, 0, 40, 64, 0, 0, NULL, 0 }

/* Reason why a generation ended, as uint32_t. */
enum {
    TEFF_FINISH_NONE = 0,    /* it failed */
    TEFF_FINISH_LENGTH = 1,  /* max_tokens reached */
    TEFF_FINISH_END = 2,     /* the model ended the text */
    TEFF_FINISH_CONTEXT = 3, /* the context is full */
    TEFF_FINISH_CALLBACK = 4, /* the callback ended it */
    TEFF_FINISH_STOP = 5,     /* it came to a stop string */
    TEFF_FINISH_CANCELLED = 6, /* the request was cancelled */
    TEFF_FINISH_DEADLINE = 7   /* the deadline of the request has passed */
};

/* Callback that receives each piece of the text as it is computed: len bytes of UTF-8, whole characters,
 * with a terminating zero; they live until it returns. A result other than 0 ends the generation. It
 * runs in the thread that called teff_session_generate. It must return: no longjmp and no exception out
 * of it (an exception ends the process). It may call Teff; on this session, functions other than those
 * that are never busy return TEFF_BUSY. */
typedef int32_t (*teff_on_text)(void *user, const char *text, size_t len);

/* Appends the prompt to the text (after the BOS token, if the text is empty and the model wants one) and
 * continues it, a piece at a time. user is passed to on_text unchanged. If options is NULL, the defaults
 * are used. The reason why it ended is written to *finish, unless finish is NULL.
 *
 * The text stays in the session: call this again with the next prompt, or with "" and a length of 0 to
 * continue, also after TEFF_CANCELLED (and teff_session_resume) and after TEFF_FINISH_CALLBACK. In that
 * case, a character that is still incomplete is not returned. An error before the first piece (in
 * options, the prompt, or the room of the context) leaves the text unchanged; a later one keeps the text
 * generated so far. */
int32_t teff_session_generate(teff_session *session, const char *prompt, size_t len,
                              const teff_generate_options *options, teff_on_text on_text,
                              void *user, uint32_t *finish);

/* As teff_session_generate, with a prompt of n tokens, to which nothing is added. */
int32_t teff_session_generate_tokens(teff_session *session, const uint32_t *tokens, size_t n,
                                     const teff_generate_options *options, teff_on_text on_text,
                                     void *user, uint32_t *finish);

/* Ends the step in progress with TEFF_CANCELLED within milliseconds, and all later ones until
 * teff_session_resume. Meant for other threads; never busy. */
int32_t teff_session_cancel(teff_session *session);

/* Revokes cancellation and time limit. Never busy. */
int32_t teff_session_resume(teff_session *session);

/* Cancels automatically after this many milliseconds from now. Never busy. */
int32_t teff_session_set_timeout(teff_session *session, uint64_t milliseconds);

/* Copies the tokens of the text, including those still to be computed. */
int32_t teff_session_tokens(const teff_session *session, uint32_t *tokens, size_t capacity,
                            size_t *needed);

/* Truncates the text to its first len tokens; 0 starts over. Nothing changes if there are fewer. */
int32_t teff_session_truncate(teff_session *session, size_t len);

/* Saves the text and its cache as bytes, up to the positions computed so far. (The bytes are first
 * assembled in Teff's memory, even if only their number is queried.) */
int32_t teff_session_save(const teff_session *session, uint8_t *bytes, size_t capacity,
                          size_t *needed);

/* Replaces the text and its cache with saved ones of the same model and kv; context, threads and backend
 * may differ, and the bits of the continuation are still the same. */
int32_t teff_session_restore(teff_session *session, const uint8_t *bytes, size_t len);

/* ---- Engines ----
 *
 * An engine continues many prompts at the same time (continuous batching), in threads of its own. The
 * text of a request does not depend on the others: it has the bits that it has alone, in a session.
 * Equal beginnings of prompts are computed once, and stay cached while there is room.
 *
 *     teff_engine_new(model, NULL, &engine);
 *     teff_engine_submit(engine, tokens, n, NULL, 1, 0, 0, &request);
 *     do {
 *         teff_event event = TEFF_EVENT_INIT;
 *         if (teff_request_poll(request, TEFF_WAIT, &event) != TEFF_OK) break;
 *         if (event.kind == TEFF_EVENT_PIECE) fwrite(event.text, 1, event.len, stdout);
 *         ended = event.kind == TEFF_EVENT_END;
 *     } while (!ended);
 *     teff_request_free(request);
 *     teff_engine_free(engine);
 */

/* Options of an engine. */
typedef struct teff_engine_options {
    size_t size;         /* sizeof(teff_engine_options) */
    size_t context;      /* positions of a sequence; 0: the model's context, or as many as the cache has
                            room for if that is fewer */
    size_t sequences;    /* maximum sequences that run at a time; 0: 16 */
    size_t queue;        /* maximum sequences that wait; 0: 1024 */
    size_t batch;        /* maximum tokens of a step, not fewer than sequences; 0: 512 */
    uint64_t memory;     /* maximum bytes of the engine, the cache included; 0: no limit */
    uint64_t cache;      /* bytes of the KV cache, of running sequences and cached prefixes; 0: what memory
                            leaves, or room for sequences of a quarter of the context */
    const char *backend; /* as in teff_session_options */
    uint32_t threads;    /* at most 256; 0: one per core */
    uint32_t kv;         /* TEFF_KV_F32, TEFF_KV_F16 or TEFF_KV_Q8 */
    uint32_t pause_ms;   /* milliseconds that a step with prompts may take while answers run; 0: 100 */
    uint32_t reserved;   /* 0 */
} teff_engine_options;
#define TEFF_ENGINE_OPTIONS_INIT \
    { sizeof(teff_engine_options), 0, 0, 0, 0, 0, 0, NULL, 0, TEFF_KV_F32, 0, 0 }

/* Description of an engine, and the bytes that it takes. */
typedef struct teff_engine_info {
    size_t size;               /* sizeof(teff_engine_info): set it before the call */
    uint64_t total;            /* all of the following bytes */
    uint64_t page_bytes;       /* pages of the KV cache */
    uint64_t checkpoint_bytes; /* checkpoints of recurrent states and windows */
    uint64_t arena;            /* working memory of a step and of the threads */
    uint64_t sequences;        /* the sequences' own states */
    uint64_t tables;           /* the plan, the table of weights, tables of pages, tokens */
    uint64_t samplers;
    uint64_t pages;            /* number, of 64 positions each */
    uint64_t checkpoints;      /* number */
    uint64_t context;          /* positions of a sequence */
    uint32_t threads;
    uint32_t reserved;         /* 0 */
} teff_engine_info;
#define TEFF_ENGINE_INFO_INIT { sizeof(teff_engine_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* What teff_engine_new would make of the same options (NULL: the defaults). It allocates only the plan. */
int32_t teff_engine_memory(const teff_model *model, const teff_engine_options *options,
                           teff_engine_info *info);

/* Creates an engine, with all of its memory. If options is NULL, the defaults are used. On failure, *engine
 * is NULL, and nothing is kept. */
int32_t teff_engine_new(const teff_model *model, const teff_engine_options *options,
                        teff_engine **engine);

/* Frees an engine. Requests that have not ended fail with TEFF_CANCELLED. It waits for the step in
 * progress. */
void teff_engine_free(teff_engine *engine);

int32_t teff_engine_describe(const teff_engine *engine, teff_engine_info *info);

/* State of an engine, and counters since its start. */
typedef struct teff_engine_counts {
    size_t size;               /* sizeof(teff_engine_counts): set it before the call */
    uint64_t waiting;          /* sequences that wait to be admitted */
    uint64_t running;          /* sequences that run */
    uint64_t batch_tokens;     /* tokens of the last step */
    uint64_t batch_sequences;  /* sequences of the last step */
    uint64_t pages;            /* pages of the KV cache: the sum of the next three */
    uint64_t pages_running;    /* used by running sequences */
    uint64_t pages_cached;     /* used by cached prefixes alone */
    uint64_t pages_free;
    uint64_t checkpoints;      /* checkpoints that there is room for */
    uint64_t checkpoints_used;
    uint64_t requests;         /* counter: submitted */
    uint64_t sequences;        /* counter: choices of all requests */
    uint64_t ended_sequences;  /* counter: ended, for whatever reason */
    uint64_t cancelled;        /* counter: ended because they were cancelled */
    uint64_t prompt_tokens;    /* counter: tokens of prompts */
    uint64_t cached_tokens;    /* counter: those among them that were cached */
    uint64_t generated_tokens; /* counter */
    uint64_t steps;            /* counter */
    uint64_t computed_tokens;  /* counter: of prompts and texts */
    uint64_t preemptions;      /* counter: sequences put off for want of pages, computed again later */
    uint64_t evictions;        /* counter: cached pages that were given up for others */
} teff_engine_counts;
#define TEFF_ENGINE_COUNTS_INIT \
    { sizeof(teff_engine_counts), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

int32_t teff_engine_stats(const teff_engine *engine, teff_engine_counts *counts);

/* Submits a request: to continue a prompt of n tokens, to which nothing is added (teff_tokenize with
 * TEFF_ADD_BOS begins it), `choices` times, 1 to 128. Choice i has the seed of the options plus i. If
 * options is NULL, the defaults are used. deadline_ms is the time from now after which it ends, 0 for none;
 * requests of higher priority are admitted first, those of equal priority in order.
 *
 * It returns at once. TEFF_CONTEXT: the prompt is too long for the engine. TEFF_BUSY: too many wait; try
 * again later. On failure, *request is NULL. */
int32_t teff_engine_submit(teff_engine *engine, const uint32_t *tokens, size_t n,
                           const teff_generate_options *options, uint32_t choices,
                           uint64_t deadline_ms, int32_t priority, teff_request **request);

/* Kind of an event. Those of a choice come in this order: one TEFF_EVENT_PROMPT (unless it ends before),
 * any number of pieces, and one TEFF_EVENT_FINISHED or TEFF_EVENT_FAILED. */
enum {
    TEFF_EVENT_NONE = 0,     /* none came in time */
    TEFF_EVENT_PROMPT = 1,   /* the prompt was computed: prompt_tokens, cached_tokens */
    TEFF_EVENT_PIECE = 2,    /* the text goes on: text, len, tokens, n_tokens */
    TEFF_EVENT_FINISHED = 3, /* the text has ended: finish, generated */
    TEFF_EVENT_FAILED = 4,   /* the text has ended by an error: status, text, len */
    TEFF_EVENT_END = 5       /* all choices have ended, and all events were taken */
};

/* Event of a request. Fields that its kind doesn't name are 0, or "" for the text. Pointers live until the
 * next poll of the request, or until it is freed. */
typedef struct teff_event {
    size_t size;            /* sizeof(teff_event): set it before the call */
    uint32_t kind;          /* TEFF_EVENT_... */
    uint32_t choice;        /* 0 to choices - 1 */
    const char *text;       /* whole characters of UTF-8, with a terminating zero; or the error's text */
    size_t len;             /* bytes of the text */
    const uint32_t *tokens; /* generated since the piece before; their text may come in a later one */
    size_t n_tokens;
    size_t prompt_tokens;   /* tokens of the prompt */
    size_t cached_tokens;   /* those among them that were cached */
    size_t generated;       /* tokens of the whole text */
    uint32_t finish;        /* TEFF_FINISH_... */
    int32_t status;         /* TEFF_OK, or that of the error */
} teff_event;
#define TEFF_EVENT_INIT { sizeof(teff_event), 0, 0, NULL, 0, NULL, 0, 0, 0, 0, 0, 0 }

/* Time of a poll that waits as long as it takes. */
#define TEFF_WAIT UINT32_MAX

/* Takes the next event, for which it waits at most timeout_ms milliseconds (0: not at all). Events that are
 * not taken are gathered: the pieces of a choice become one, so that a request may be polled as rarely as
 * you like. A failed text is an event, and no error of the poll. TEFF_CANCELLED: another thread has freed
 * the request meanwhile. */
int32_t teff_request_poll(teff_request *request, uint32_t timeout_ms, teff_event *event);

/* Cancels all choices, within one step. Their events still come, and end with TEFF_FINISH_CANCELLED. Meant
 * for any thread; never busy. */
int32_t teff_request_cancel(teff_request *request);

/* Frees a request, and cancels it if it has not ended. */
void teff_request_free(teff_request *request);

#ifdef __cplusplus
}
#endif

#endif /* TEFF_H */
