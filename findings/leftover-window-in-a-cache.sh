#!/usr/bin/env bash
# transformers 5.24.0: a Llama whose config.json has a `sliding_window` left over from another class. The model's mask has no
# window, and one forward over a text, with a cache or without, attends to all of it. The cache that it makes has windowed
# layers: fed token by token, as generating does, the model forgets what lies further back, and its logits part from the
# forward's where the text is longer than the window. (Llama has no window in llama.cpp, whatever the file says.)
# Seen on 2026-11-29, the largest difference of logits at each position, window 8:
#
#     layers of the cache: DynamicSlidingWindowLayer
#     one forward, with a cache and without: 0
#     token by token and one forward, positions 0 to 7: below 2e-5; from position 8 on: 1.7 to 12
#
# Needs Python 3 with venv, and PyPI (torch is large). Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 torch==2.15.0
"$dir/venv/bin/python" - <<'PYTHON'
import os

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from transformers import LlamaConfig, LlamaForCausalLM

WINDOW = 8
torch.manual_seed(1)
torch.set_num_threads(1)
config = LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, sliding_window=WINDOW,
                     attn_implementation="eager")
model = LlamaForCausalLM(config).eval()
ids = torch.randint(0, 64, (1, 24))
with torch.no_grad():
    whole = model(ids, use_cache=False).logits[0]
    cached = model(ids, use_cache=True).logits[0]
    cache, rows = None, []
    for i in range(ids.shape[1]):
        step = model(ids[:, i : i + 1], past_key_values=cache, use_cache=True)
        cache = step.past_key_values
        rows.append(step.logits[0, 0])
kinds = {type(layer).__name__ for layer in cache.layers}
between = (whole - cached).abs().max().item()
apart = (whole - torch.stack(rows)).abs().amax(dim=1).tolist()
print("layers of the cache:", *kinds)
print("one forward, with a cache and without:", between)
print("token by token and one forward:", " ".join(f"{d:.1e}" for d in apart))
assert kinds == {"DynamicSlidingWindowLayer"}, kinds
assert between == 0
assert all(d < 1e-3 for d in apart[:WINDOW]) and apart[WINDOW] > 1 and apart[20] > 1
PYTHON
