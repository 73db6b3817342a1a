#!/usr/bin/env bash
# llguidance 1.9.1 keeps the numbers of a JSON schema as 64-bit floats, those of `const` and `enum` too. An integer beyond
# 2^53 (an identifier, say) becomes the next float, and that is written in full: the engine refuses the only integer that the
# schema allows, and makes the model write another one. The same goes for `minimum` and `maximum`. Nothing warns.
# Seen on 2026-11-30, the texts that are accepted:
#
#     {"const": 9007199254740991}                                 9007199254740991
#     {"const": 9007199254740993}                                 9007199254740992
#     {"enum": [1234567890123456789]}                             1234567890123456768
#     {"type": "integer", "minimum": N, "maximum": N} of the same 1234567890123456768
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
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


N = 1234567890123456789
for schema, value, written in [
    ('{"const": 9007199254740991}', 9007199254740991, 9007199254740991),
    ('{"const": 9007199254740993}', 9007199254740993, 9007199254740992),
    (f'{{"enum": [{N}]}}', N, 1234567890123456768),
    (f'{{"type": "integer", "minimum": {N}, "maximum": {N}}}', N, 1234567890123456768),
]:
    accepted = [n for n in sorted({value, written}) if accepts(schema, str(n))]
    print(schema, "accepts", *accepted)
    assert accepted == [written], accepted
PYTHON
