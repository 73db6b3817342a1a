#!/usr/bin/env bash
# tokenizers 0.23.3: an added token with `normalized: true` is searched for in normalised text, by its own normal form. If
# the normaliser leaves nothing of it (white space and a Strip, a mark and a Replace), the empty form matches between all
# characters: every word falls apart into its letters, and the token itself is never emitted.
# Seen on 2026-11-29 (a vocabulary that has the word abc):
#
#     without the token: abc
#     with it:           a b c
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3
"$dir/venv/bin/python" - "$dir" <<'PYTHON'
from tokenizers import AddedToken, Tokenizer, models, normalizers

def tokens(added):
    vocab = {"a": 0, "b": 1, "c": 2, "abc": 3, "[unk]": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocab, unk_token="[unk]"))
    tokenizer.normalizer = normalizers.Replace("-", "")
    if added:
        tokenizer.add_tokens([AddedToken("-", normalized=True)])
    return tokenizer.encode("abc").tokens

without, with_it = tokens(False), tokens(True)
print("without the token:", without)
print("with it:", with_it)
assert without == ["abc"], without
assert with_it == ["a", "b", "c"], with_it
PYTHON
