#!/usr/bin/env bash
# pydantic 2.14.4: the JSON schema of a dictionary whose keys have a pattern. It comes as `patternProperties` alone, without
# `additionalProperties: false`: by the schema, other keys are allowed, and their values may be anything. pydantic refuses
# what its own schema allows. A minimum length of the keys comes as `propertyNames`, and the value's type as
# `additionalProperties`: with these, schema and pydantic agree.
# Seen on 2026-11-30 (validated by jsonschema 4.26.0 and by pydantic):
#
#     keys with a pattern  {"patternProperties": {"^[a-z]+$": {"type": "integer"}}, "type": "object"}
#                          {"B": "x"}: valid by the schema, refused by pydantic
#     keys with a length   {"additionalProperties": {"type": "integer"}, "propertyNames": {"minLength": 2}, "type": "object"}
#                          {"b": 1}, {"bb": "x"}: refused by both
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check pydantic==2.14.4 jsonschema==4.26.0
"$dir/venv/bin/python" - <<'PYTHON'
import json
from typing import Annotated

from jsonschema import Draft202012Validator
from pydantic import Field, TypeAdapter, ValidationError


def by_pydantic(adapter, text):
    try:
        adapter.validate_json(text)
    except ValidationError:
        return False
    return True


letters = TypeAdapter(dict[Annotated[str, Field(pattern="^[a-z]+$")], int])
long = TypeAdapter(dict[Annotated[str, Field(min_length=2)], int])
for adapter, keys, cases in [
    (letters, ["patternProperties", "type"], {'{"b": 1}': (True, True), '{"b": "x"}': (False, False), '{"B": "x"}': (True, False)}),
    (long, ["additionalProperties", "propertyNames", "type"],
     {'{"bb": 1}': (True, True), '{"b": 1}': (False, False), '{"bb": "x"}': (False, False)}),
]:
    schema = adapter.json_schema()
    print(json.dumps(schema))
    assert sorted(schema) == keys, schema
    for text, expected in cases.items():
        seen = Draft202012Validator(schema).is_valid(json.loads(text)), by_pydantic(adapter, text)
        print(f"    {text}: valid by the schema {seen[0]}, by pydantic {seen[1]}")
        assert seen == expected, text
PYTHON
