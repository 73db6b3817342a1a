#!/usr/bin/env bash
# openai 3.57.0 (the Python package): `chat.completions.stream` puts the choices of a stream into a list in the order in which
# they come, and looks them up by their index. If the first chunk of choice 1 comes before that of choice 0, or 2 before 1, it
# raises IndexError in the middle of the stream. No specification has such an order, and several choices are generated at the
# same time; `create(stream=True)` gives the same chunks to the caller without complaint.
# Seen on 2026-11-30 (chunks from a server of this script):
#
#     first chunks of 0, 1, 2: the texts of all
#     first chunks of 1, 0:    IndexError at the first chunk
#     first chunks of 0, 2, 1: IndexError at the second chunk
#
# Needs Python 3 with venv, and PyPI. Prints what it saw; fails if that changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check openai==3.57.0
"$dir/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        order = json.loads(json.loads(self.rfile.read(int(self.headers["content-length"])))["model"])
        choices = [{"index": i, "delta": {"role": "assistant", "content": "ABC"[i]}, "finish_reason": None} for i in order]
        choices += [{"index": i, "delta": {}, "finish_reason": "stop"} for i in order]
        head = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk"}
        chunks = [json.dumps({**head, "choices": [c]}) for c in choices]
        body = "".join(f"data: {c}\n\n" for c in [*chunks, "[DONE]"])
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0)

for order, expected in [([0, 1, 2], "ABC"), ([1, 0], (0, "IndexError")), ([0, 2, 1], (1, "IndexError"))]:
    asked = {"model": json.dumps(order), "messages": [{"role": "user", "content": "x"}], "n": len(order)}
    texts = {c.index: c.delta.content for chunk in client.chat.completions.create(stream=True, **asked)
             for c in chunk.choices if c.delta.content}
    assert texts == {i: "ABC"[i] for i in order}, texts
    chunks = 0
    with client.chat.completions.stream(**asked) as stream:
        try:
            for event in stream:
                chunks += event.type == "chunk"
            result = "".join(c.message.content for c in stream.get_final_completion().choices)
        except IndexError as error:
            result = chunks, type(error).__name__
    print("first chunks of", order, "->", result)
    assert result == expected, result
PYTHON
