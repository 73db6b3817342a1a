#!/usr/bin/env bash
# transformers 5.24.0: one tokenizer.json with two added tokens, and a tokenizer_config.json whose `added_tokens_decoder` lists one of
# them. As `PreTrainedTokenizerFast` the folder knows both; as `GPT2Tokenizer` it knows the listed one only, and the text of
# the other falls apart into bytes. Without `added_tokens_decoder` both classes know both. The class builds a tokenizer
# of its own from vocabulary and merges, and takes added tokens from the list where there is one.
# Seen on 2026-11-29:
#
#     GPT2Tokenizer            no list: 258 tokens, <|tool|> is [257]
#     PreTrainedTokenizerFast  no list: 258 tokens, <|tool|> is [257]
#     GPT2Tokenizer            a list:  257 tokens, <|tool|> is 8 bytes
#     PreTrainedTokenizerFast  a list:  258 tokens, <|tool|> is [257]
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3
"$dir/venv/bin/python" - "$dir" <<'PYTHON'
import json
import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

folder = os.path.join(sys.argv[1], "tokenizer")
os.mkdir(folder)
vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
vocab["<|endoftext|>"] = 256
tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(["<|endoftext|>", "<|tool|>"])
tokenizer.save(os.path.join(folder, "tokenizer.json"))
end = {"content": "<|endoftext|>", "lstrip": False, "rstrip": False, "normalized": False,
       "single_word": False, "special": True}
seen = {}
for name, more in [("no list", {}), ("a list", {"added_tokens_decoder": {"256": end}})]:
    for kind in ["GPT2Tokenizer", "PreTrainedTokenizerFast"]:
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
            json.dump({"tokenizer_class": kind, **more}, f)
        loaded = AutoTokenizer.from_pretrained(folder)
        seen[kind, name] = len(loaded), loaded("<|tool|>").input_ids
        print(f"{kind}, {name}: {seen[kind, name]}")
assert seen["GPT2Tokenizer", "no list"] == (258, [257])
assert seen["PreTrainedTokenizerFast", "no list"] == (258, [257])
assert seen["PreTrainedTokenizerFast", "a list"] == (258, [257])
size, ids = seen["GPT2Tokenizer", "a list"]
assert size == 257 and len(ids) == 8, (size, ids)
PYTHON
