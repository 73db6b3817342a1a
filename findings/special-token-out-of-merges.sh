#!/usr/bin/env bash
# tokenizers 0.23.3: `encode_special_tokens = True` is for text that must not become special tokens. It only keeps the search
# for added tokens from finding them: where a special token is in the vocabulary and merges lead to it, ordinary text still
# becomes that token. Whoever relies on the switch has to look at the merges too.
# Seen on 2026-11-29:
#
#     merges lead to it: [4]
#     they do not:       [0, 1, 2]
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3
"$dir/venv/bin/python" - "$dir" <<'PYTHON'
from tokenizers import Tokenizer, models

def ids(vocab, merges):
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.add_special_tokens(["<e>"])
    tokenizer.encode_special_tokens = True
    assert next(t for t in tokenizer.get_added_tokens_decoder().values()).special
    return tokenizer.encode("<e>").ids

letters = {"<": 0, "e": 1, ">": 2}
merged = ids({**letters, "<e": 3, "<e>": 4}, [("<", "e"), ("<e", ">")])
apart = ids(letters, [])
print("merges lead to it:", merged)
print("they do not:", apart)
assert merged == [4], merged
assert apart == [0, 1, 2], apart
PYTHON
