#!/usr/bin/env bash
# tokenizers 0.23.3: an added token that is special and normalised, under a normaliser that changes its text (Lowercase and
# [CLS], as in folders of BERT's kind), is known to the decoder by its normal form. `id_to_token` answers with that, and
# `decode` with `skip_special_tokens` no longer skips it. 0.22.2 did skip it, and had the name that the file has.
# Seen on 2026-11-29 (ids of "a", the token and "b"):
#
#     0.22.2: id_to_token '[CLS]'  decoded without special tokens 'a b'
#     0.23.3: id_to_token '[cls]'  decoded without special tokens 'a [cls] b'
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
cat >"$dir/try.py" <<'PYTHON'
import json
import sys

import tokenizers

added = {"id": 2, "content": "[CLS]", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": True}
model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
         "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {"a": 0, "b": 1}, "merges": []}
file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [added], "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": model}
tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
seen = tokenizer.id_to_token(2), tokenizer.decode([0, 2, 1], skip_special_tokens=True)
print(tokenizers.__version__, *map(repr, seen))
assert seen == tuple(sys.argv[1:]), sys.argv[1:]
PYTHON
for case in "0.22.2|[CLS]|a b" "0.23.3|[cls]|a [cls] b"; do
    IFS='|' read -r version name text <<<"$case"
    "$dir/venv/bin/pip" install -q --disable-pip-version-check "tokenizers==$version"
    "$dir/venv/bin/python" "$dir/try.py" "$name" "$text"
done
