#!/usr/bin/env bash
# llguidance 1.9.1: the `pattern` of a JSON schema with a class that leaves out the quotation mark or the backslash, such as
# [^"\\], still lets strings have them. When it puts classes into the form that JSON has between quotation marks, a
# class of all control characters (or of all but \n) gets all short escapes, with \" and \\ among them. If the class leaves
# out one more control character, as [^"\\\t] does, the same engine keeps both out.
# Seen on 2026-11-30, strings of one character:
#
#     ^[^"\\]$     accepts "a", "\"" and "\\"
#     ^[^"\\\n]$   accepts "a", "\"" and "\\"
#     ^[^"\\\t]$   accepts "a"
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check llguidance==1.9.1
"$dir/venv/bin/python" - <<'PYTHON'
import json
import re

from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")


def accepts(pattern, text):
    schema = json.dumps({"type": "string", "pattern": pattern})
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(schema), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


for pattern, expected in [
    (r'^[^"\\]$', ["a", '"', "\\"]),
    (r'^[^"\\\n]$', ["a", '"', "\\"]),
    (r'^[^"\\\t]$', ["a"]),
]:
    accepted = [s for s in ["a", '"', "\\"] if accepts(pattern, json.dumps(s))]
    valid = [s for s in ["a", '"', "\\"] if re.search(pattern, s)]
    print(pattern, "accepts", *map(json.dumps, accepted), "| valid:", *map(json.dumps, valid))
    assert accepted == expected, accepted
PYTHON
