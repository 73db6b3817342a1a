#!/usr/bin/env bash
# llguidance 1.9.1 writes a number that is a multiple of 0.25 with two places (0.50), and holds it to a `maximum` of 0.5 as
# a text that must not go on behind the bound's own digits. Both hold at once, so that a maximum with fewer places than the
# step is never written, though it is a multiple; where it is the only multiple in the range, a valid schema has no
# text at all, or is refused. A minimum below 0 is the same, mirrored.
# Seen on 2026-12-01, the numbers that are accepted, of 0.25, 0.5, 0.50, 0.75, 1 and their negatives:
#
#     {"multipleOf": 0.25, "minimum": 0.25, "maximum": 0.5}       0.25
#     {"multipleOf": 0.25, "minimum": 0.25, "maximum": 0.6}       0.25 0.50
#     {"multipleOf": 0.25, "minimum": -0.5, "maximum": -0.25}     -0.25
#     {"multipleOf": 0.25, "minimum": 0.5, "maximum": 0.5}        none
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check llguidance==1.9.1
"$dir/venv/bin/python" - <<'PYTHON'
from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")


def accepts(schema, text):
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
    if matcher.is_error():
        return False
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


texts = ["0.25", "0.5", "0.50", "0.75", "1", "-0.25", "-0.5", "-0.50", "-0.75", "-1"]
for low, high, seen in [
    (0.25, 0.5, ["0.25"]),
    (0.25, 0.6, ["0.25", "0.50"]),
    (-0.5, -0.25, ["-0.25"]),
    (0.5, 0.5, []),
]:
    schema = f'{{"type": "number", "multipleOf": 0.25, "minimum": {low}, "maximum": {high}}}'
    accepted = [text for text in texts if accepts(schema, text)]
    print(schema, "accepts", *accepted or ["none"])
    assert accepted == seen, accepted
PYTHON
