#!/usr/bin/env bash
# tokenizers 0.23.3 has two engines for patterns. In `Split(Regex(...))` the class \w is Oniguruma's: superscript digits
# and fractions belong to it, the zero-width joiner does not. In `Whitespace`, which is documented as \w+|[^\w\s]+, it is the
# regex crate's: the other way round. A tokenizer.json that replaces one by the other splits texts in other places.
# Seen on 2026-11-29:
#
#     Split(\w+):  a²½ | ZWJ | b
#     Whitespace:  a | ²½ | ZWJ b
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check tokenizers==0.23.3
"$dir/venv/bin/python" - "$dir" <<'PYTHON'
from tokenizers import Regex, pre_tokenizers

text = "a²½\u200db"
split = [p for p, _ in pre_tokenizers.Split(Regex(r"\w+"), "isolated").pre_tokenize_str(text)]
white = [p for p, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)]
print("Split(\\w+):", split)
print("Whitespace:", white)
assert split == ["a²½", "\u200d", "b"], split
assert white == ["a", "²½", "\u200db"], white
PYTHON
