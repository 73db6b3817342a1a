#!/usr/bin/env bash
# anthropic 2.14.0: `client.beta.messages.tool_runner` runs tools on the client's side and sends all messages each time,
# but its first request has a field that nobody gave it, `thread: {"type": "create"}`; `client.beta.messages.create` with the
# same arguments has none. A server that refuses fields it doesn't know, or that keeps no conversations, fails with
# the one and not with the other.
# Seen on 2026-12-01, the fields of the requests:
#
#     create       max_tokens messages model tools
#     tool_runner  max_tokens messages model thread tools
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

bodies = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        answer = json.dumps({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Three."}], "usage": {"input_tokens": 1, "output_tokens": 1},
        }).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}")


@anthropic.beta_tool
def add(a: int, b: int) -> str:
    """Adds.

    Args:
        a: One number.
        b: Another one.
    """
    return str(a + b)


asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "1 + 2?"}]}
client.beta.messages.create(**asked, tools=[add.to_dict()])
client.beta.messages.tool_runner(**asked, tools=[add]).until_done()
create, runner = (sorted(body) for body in bodies)
print("create      ", *create)
print("tool_runner ", *runner)
assert set(runner) - set(create) == {"thread"} and bodies[1]["thread"] == {"type": "create"}, bodies
PYTHON
