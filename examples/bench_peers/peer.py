"""Times llama.cpp through the library of llama-cpp-python: the peer of bench_peers.

usage: peer.py MODEL THREADS CONTEXT

Writes `ready INFO`, or `error WHY`. Then, for each line `prefill N` or `decode N`, the seconds that
N tokens take from an empty cache, at once or one at a time.
"""

import os
import sys
import time

# Whatever the library prints goes to standard error: standard output is for answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(text):
    print(" ".join(str(text).split()), file=answers, flush=True)


def main():
    path, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        import llama_cpp as lib
    except Exception as e:
        return answer(f"error llama_cpp can't be imported: {e}")
    try:
        model = lib.Llama(
            path,
            n_ctx=context,
            n_batch=512,
            n_ubatch=512,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )
        step, clear = calls(lib, model)
        info = lib.llama_print_system_info().decode()
    except Exception as e:
        return answer(f"error llama.cpp can't use the file: {e}")
    answer(f"ready llama-cpp-python {lib.__version__}: {info}")

    # Pseudo-random tokens, always the same (Knuth's multiplicative hash).
    vocab = model.n_vocab()
    tokens = [i * 2654435761 % 2**32 % vocab for i in range(context)]
    for line in sys.stdin:
        what, n = line.split()
        part = int(n) if what == "prefill" else 1
        try:
            clear()
            start = time.perf_counter()
            for at in range(0, int(n), part):
                step(tokens[at : at + part], at)
            answer(time.perf_counter() - start)
        except Exception as e:
            return answer(f"error llama.cpp can't run the file: {e}")


def calls(lib, model):
    """Functions that compute tokens at a position, and that empty the cache."""
    context = model._ctx.ctx
    batch = lib.llama_batch_init(512, 0, 1)

    def step(tokens, position):
        for first in range(0, len(tokens), 512):
            part = tokens[first : first + 512]
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i] = token
                batch.pos[i] = position + first + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = i == len(part) - 1
            status = lib.llama_decode(context, batch)
            if status != 0:
                raise RuntimeError(f"llama_decode gives {status}")
        lib.llama_synchronize(context)

    def clear():
        # Its name changed over the years.
        if hasattr(lib, "llama_memory_clear"):
            lib.llama_memory_clear(lib.llama_get_memory(context), True)
        elif hasattr(lib, "llama_kv_self_clear"):
            lib.llama_kv_self_clear(context)
        else:
            lib.llama_kv_cache_clear(context)

    return step, clear


main()
