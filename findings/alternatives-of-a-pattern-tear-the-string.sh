#!/usr/bin/env bash
# outlines-core 0.2.14 writes the `pattern` of a JSON schema, less its ^ and $, between two quotation marks, and no group
# around it. Of ^yes|no$ the first alternative has the opening mark and the second the closing one: neither text that is
# accepted is JSON, in an object as well, and the strings "yes" and "no" are refused. With a group of its own, ^(yes|no)$, the
# pattern is what one expects.
# Seen on 2026-11-30:
#
#     ^(yes|no)$   accepts {"k":"yes"} and {"k":"no"}
#     ^yes|no$     accepts {"k":"yes} and {"k":no"}
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


def accepts(index, text):
    guide = Guide(index)
    for c in text:
        token = letters.index(c) + 1
        if token not in guide.get_tokens():
            return False
        guide.advance(token)
    return 0 in guide.get_tokens()


texts = ['{"k":"yes"}', '{"k":"no"}', '{"k":"yes}', '{"k":no"}']
for pattern, expected in [("^(yes|no)$", texts[:2]), ("^yes|no$", texts[2:])]:
    schema = {"type": "object", "properties": {"k": {"type": "string", "pattern": pattern}}, "required": ["k"]}
    index = Index(build_regex_from_schema(json.dumps(schema)), vocabulary)
    accepted = [text for text in texts if accepts(index, text)]
    print(pattern, "accepts", *accepted)
    assert accepted == expected, accepted
PYTHON
