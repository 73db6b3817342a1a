#!/usr/bin/env bash
# One schema, {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}, and four engines that hold models to schemas.
# llguidance 1.9.1 holds to both keywords; outlines-core 0.2.14 forgets the pattern, and says nothing; xgrammar 0.2.9 forgets
# the length, with a line on standard error; lm-format-enforcer 0.11.3 raises an error. What is accepted is JSON in all of
# them, so that the difference shows in values alone.
# Seen on 2026-11-30, the strings that are accepted (only "abc" is valid):
#
#     llguidance          "abc"
#     outlines-core       "abc" "A1"
#     xgrammar            "abc" "abcd"
#     lm-format-enforcer  LMFormatEnforcerException
#
# Needs Python 3 with venv, and PyPI. xgrammar imports torch and transformers, which have no part in reading schemas and
# checking texts: empty classes stand in their place. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check llguidance==1.9.1 outlines-core==0.2.14 lm-format-enforcer==0.11.3 \
    apache-tvm-ffi==0.1.15.post2 numpy==2.4.6
"$dir/venv/bin/pip" install -q --disable-pip-version-check --no-deps xgrammar==0.2.9
"$dir/venv/bin/python" - <<'PYTHON'
import json
import re
import sys
import types

import lmformatenforcer
import tvm_ffi  # before the stand-ins
from llguidance import LLMatcher, LLTokenizer
from outlines_core.json_schema import build_regex_from_schema

torch = types.ModuleType("torch")
torch.Tensor = torch.LongTensor = torch.FloatTensor = type("Tensor", (), {})
torch.int32 = None
torch.tensor = lambda *_, **__: None
transformers = types.ModuleType("transformers")
for name in ["LogitsProcessor", "PreTrainedTokenizerBase", "PreTrainedTokenizerFast"]:
    setattr(transformers, name, type(name, (), {}))
sys.modules.update(torch=torch, transformers=transformers)
import xgrammar
from xgrammar.testing import _is_grammar_accept_string

SCHEMA = {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}
TEXTS = ['"abc"', '"abcd"', '"A1"']


def llguidance_accepts(text):
    tokenizer = LLTokenizer("byte")
    matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(SCHEMA)), log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def outlines_accepts(text):
    return re.fullmatch(build_regex_from_schema(json.dumps(SCHEMA)), text) is not None


def xgrammar_accepts(text):
    return _is_grammar_accept_string(xgrammar.Grammar.from_json_schema(json.dumps(SCHEMA)), text)


def enforcer_accepts(text):
    parser = lmformatenforcer.JsonSchemaParser(SCHEMA)
    for character in text:
        if character not in parser.get_allowed_characters():
            return False
        parser = parser.add_character(character)
    return parser.can_end()


for name, accepts, expected in [
    ("llguidance", llguidance_accepts, ['"abc"']),
    ("outlines-core", outlines_accepts, ['"abc"', '"A1"']),
    ("xgrammar", xgrammar_accepts, ['"abc"', '"abcd"']),
    ("lm-format-enforcer", enforcer_accepts, ["LMFormatEnforcerException"]),
]:
    try:
        seen = [text for text in TEXTS if accepts(text)]
    except Exception as error:
        seen = [type(error).__name__]
    print(f"{name:19}", *seen)
    assert seen == expected, seen
PYTHON
