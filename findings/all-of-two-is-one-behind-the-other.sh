#!/usr/bin/env bash
# outlines-core 0.2.14: `allOf` with two schemas becomes the one's expression with the other's behind it. A model that is held
# to it writes two values in a row, which is no JSON, and a value that both schemas allow is refused. With one schema in the
# list, as generators of schemas write it around a `$ref`, all is well; nothing is reported with two.
# Seen on 2026-11-30 (an object that needs a, and one that needs b; the texts as a guide over the index takes them):
#
#     {"a":1,"b":2}    refused
#     {"a":1}{"b":2}   accepted
#     two strings, of at least 2 and of at most 3 characters: "ab" refused, "ab""c" accepted
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check outlines-core==0.2.14
"$dir/venv/bin/python" - <<'PYTHON'
import json

from outlines_core import Guide, Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema

letters = [chr(c) for c in range(32, 127)]
vocabulary = Vocabulary(0, {c: [i + 1] for i, c in enumerate(letters)})


def accepts(schema, text):
    guide = Guide(Index(build_regex_from_schema(json.dumps(schema)), vocabulary))
    for c in text:
        token = letters.index(c) + 1
        if token not in guide.get_tokens():
            return False
        guide.advance(token)
    return 0 in guide.get_tokens()


def needs(name):
    return {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}


objects = {"allOf": [needs("a"), needs("b")]}
strings = {"allOf": [{"type": "string", "minLength": 2}, {"type": "string", "maxLength": 3}]}
for schema, text, expected in [
    ({"allOf": [needs("a")]}, '{"a":1}', True),
    (objects, '{"a":1,"b":2}', False),
    (objects, '{"a":1}{"b":2}', True),
    (strings, '"ab"', False),
    (strings, '"ab""c"', True),
]:
    seen = accepts(schema, text)
    print(json.dumps(schema), text, "accepted" if seen else "refused")
    assert seen is expected, text
PYTHON
