#!/usr/bin/env bash
# anthropic 2.14.0 (the Python package): `messages.stream` and a call of a tool that `max_tokens` cut. The input of the final
# message is what could be read of the JSON that came, as an ordinary dictionary. A string that was cut is left out of it; a
# number that was cut stays, with the digits that came, and so is another number. Nothing is raised: only the message's
# `stop_reason` tells. (In OpenAI's interface arguments are text, and reading what was cut fails.)
# Seen on 2026-11-30 (events from a server of this script, "stop_reason": "max_tokens"):
#
#     {"to": "Ann", "amount": 12    {'to': 'Ann', 'amount': 12}
#     {"amount": 12, "to": "An      {'amount': 12}
#     {"amount": 12, "now": tr      {'amount': 12}
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check anthropic==2.14.0
"$dir/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import anthropic


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][0]["content"]
        message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
                   "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 0}}
        events = [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "pay", "input": {}}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": text}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": None}, "usage": {"output_tokens": 9}},
            {"type": "message_stop"},
        ]
        body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none", max_retries=0)

for text, expected in [
    ('{"to": "Ann", "amount": 12', {"to": "Ann", "amount": 12}),
    ('{"amount": 12, "to": "An', {"amount": 12}),
    ('{"amount": 12, "now": tr', {"amount": 12}),
]:
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    with client.messages.stream(**asked) as stream:
        message = stream.get_final_message()
    print(f"{text:30}", message.content[0].input, message.stop_reason)
    assert message.content[0].input == expected and message.stop_reason == "max_tokens", message
PYTHON
