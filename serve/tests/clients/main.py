"""Clients of other makers against a running `teff serve`.

python main.py --url URL --key KEY --model NAME [WORD ...]

Runs the tests of the modules beside it, those alone whose names have one of the words in them. The
server must have the template that lies here, and a context of some thousand positions. What the
model says doesn't matter, but it should not always be the same.
"""

import argparse
import inspect
import sys
import time
import traceback

import anthropic_messages
import openai_chat
import openai_faults
import openai_others
import openai_structured
import pydantic_agents
from common import Server

MODULES = (openai_chat, openai_structured, openai_others, openai_faults, pydantic_agents, anthropic_messages)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    server = Server(options.url, options.key, options.model)
    passed = failed = 0
    for module in MODULES:
        for name, test in inspect.getmembers(module, inspect.isfunction):
            full = f"{module.__name__}.{name.removeprefix('test_')}"
            if not name.startswith("test_") or not any(word in full for word in options.words or [""]):
                continue
            start = time.monotonic()
            try:
                test(server)
                passed += 1
                print(f"ok     {full} ({time.monotonic() - start:.1f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED {full}\n{traceback.format_exc()}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
