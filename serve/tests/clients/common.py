"""The server, as the tests of all clients see it."""

import contextlib
import json
import re
import time
import urllib.request

# Seconds after which a test has failed: nothing here depends on how long something takes.
PATIENCE = 120


class Server:
    """A running server: its address, one of its keys, and the name of its model."""

    def __init__(self, url: str, key: str, model: str) -> None:
        self.url, self.key, self.model = url.rstrip("/"), key, model
        self._special: dict[str, int] = {}

    def ask(self, path: str, body: object = None, key: str | None = None) -> bytes:
        """The body of an answer, by no client at all."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data)
        request.add_header("Authorization", f"Bearer {key or self.key}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.read()

    def metric(self, pattern: str) -> float:
        """The sum of the metrics whose names and labels match."""
        text = self.ask("/metrics").decode()
        values = re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)
        assert values, f"no metric {pattern} in {text}"
        return sum(map(float, values))

    def requests(self) -> float:
        """Number of requests so far, but for those of this function."""
        return self.metric(r'teff_requests_total\{route="(?!/metrics).*\}')

    @contextlib.contextmanager
    def one_request(self):
        """Fails unless exactly one request comes: clients repeat those that seem to be the server's fault."""
        before = self.requests()
        yield
        more = self.requests() - before
        assert more == 1, f"{more} requests"

    def token(self, text: str) -> int:
        """The one token of a text."""
        if text not in self._special:
            tokens = json.loads(self.ask("/tokenize", {"content": text}))["tokens"]
            assert len(tokens) == 1, f"{text!r} has tokens {tokens}"
            self._special[text] = tokens[0]
        return self._special[text]

    def end_soon(self) -> dict[str, int]:
        """Biases by which an answer ends at once."""
        eos = json.loads(self.ask("/props"))["eos_token"]
        return {str(self.token(eos)): 100}

    def wait_until_idle(self) -> None:
        """Waits until nothing is computed any more."""
        end = time.monotonic() + PATIENCE
        while self.metric("teff_running_sequences") + self.metric("teff_queue_requests") > 0:
            assert time.monotonic() < end, "sequences run on"
            time.sleep(0.02)


@contextlib.contextmanager
def raises(kind, **fields):
    """Fails unless an error of this kind is raised, with these values in its fields."""
    try:
        yield
    except kind as error:
        assert type(error) is kind, f"{type(error)}, not {kind}"
        for name, value in fields.items():
            got = getattr(error, name)
            assert got == value, f"{name} of {error!r} is {got!r}, not {value!r}"
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def equal(got, wanted, what: str = "") -> None:
    assert got == wanted, f"{what}: {got!r} is not {wanted!r}"
