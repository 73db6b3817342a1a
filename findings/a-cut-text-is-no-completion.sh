#!/usr/bin/env bash
# openai 3.57.0 (the Python package): `chat.completions.stream` of plain text, without `response_format` and without tools. If
# the text ends because of `max_tokens`, all events come, the last with the whole text; `get_final_completion` then raises
# LengthFinishReasonError, "Could not parse response content", though there is nothing to parse. The same text ended by the
# model is returned, and `create` returns it in both cases, with its `finish_reason`.
# Seen on 2026-11-30 (a stream of two chunks from a server of this script):
#
#     "stop":   content.done 'Once upon', then the completion
#     "length": content.done 'Once upon', then LengthFinishReasonError
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
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        reason, head = request["model"], {"id": "c", "created": 1, "model": "m"}
        if request.get("stream"):
            choices = [{"index": 0, "delta": {"role": "assistant", "content": "Once upon"}, "finish_reason": None},
                       {"index": 0, "delta": {}, "finish_reason": reason}]
            chunks = [json.dumps({**head, "object": "chat.completion.chunk", "choices": [c]}) for c in choices]
            kind, body = "text/event-stream", "".join(f"data: {c}\n\n" for c in [*chunks, "[DONE]"])
        else:
            message = {"role": "assistant", "content": "Once upon"}
            choices = [{"index": 0, "message": message, "finish_reason": reason}]
            kind, body = "application/json", json.dumps({**head, "object": "chat.completion", "choices": choices})
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0)


def seen(reason):
    asked = {"model": reason, "messages": [{"role": "user", "content": "Begin."}], "max_tokens": 2}
    choice = client.chat.completions.create(**asked).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Once upon", reason), choice
    with client.chat.completions.stream(**asked) as stream:
        texts = [event.content for event in stream if event.type == "content.done"]
        try:
            return *texts, stream.get_final_completion().choices[0].message.content
        except openai.OpenAIError as error:
            return *texts, type(error).__name__


for reason, expected in [("stop", "Once upon"), ("length", "LengthFinishReasonError")]:
    result = seen(reason)
    print(f'"{reason}":', result)
    assert result == ("Once upon", expected), result
PYTHON
