"""Errors as the package openai raises them. Each request is made once: none of them is worth a repetition."""

import openai

from common import Server, equal, raises
from openai_chat import asked, client


def test_keys(server: Server) -> None:
    for key in ("wrong", server.key + "x"):
        with server.one_request(), raises(openai.AuthenticationError, status_code=401, type="authentication_error"):
            client(server).with_options(api_key=key).models.list()
    client(server).with_options(api_key="wrong", default_headers={"X-Api-Key": server.key})


def test_fields_that_are_wrong(server: Server) -> None:
    wrong = {
        "messages": ([], "none", [{"role": "user"}], [{"content": "x"}]),
        "max_tokens": ("many", -2, 1.5),
        "temperature": (-1, "hot"),
        "top_p": (2,),
        "n": (0, 10_000),
        "stop": (5, [5]),
        "top_logprobs": (3, 1000),
        "logit_bias": ({"x": 1}, {"999999999": 1}),
        "stream": ("yes",),
        "tools": ([{"type": "web"}], [{"type": "function", "function": {}}]),
        "tool_choice": ("required", {"type": "function", "function": {"name": "none"}}),
        "response_format": ({"type": "xml"}, {"type": "json_schema"}),
    }
    for name, values in wrong.items():
        for value in values:
            with server.one_request():
                try:
                    client(server).chat.completions.create(**asked(server, **{name: value}))
                except openai.BadRequestError as error:
                    equal((error.status_code, error.type), (400, "invalid_request_error"))
                    assert error.param.startswith(name) and name in error.message, (error.param, error.message)
                else:
                    raise AssertionError(f"{name}={value!r} was taken")


def test_schemas_that_are_not_supported(server: Server) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    for fields in ({"response_format": wanted}, {"response_format": wanted, "stream": True}):
        with server.one_request():
            try:
                client(server).chat.completions.create(**asked(server, **fields))
            except openai.BadRequestError as error:
                assert "uniqueItems" in error.message, error.message
            else:
                raise AssertionError("the keyword was left out")


def test_prompts_that_are_too_long(server: Server) -> None:
    long = [{"role": "user", "content": "teff " * 20_000}]
    for stream in (False, True):
        wanted = {"code": "context_length_exceeded", "status_code": 400}
        with server.one_request(), raises(openai.BadRequestError, **wanted):
            client(server).chat.completions.create(**asked(server, messages=long, stream=stream))


def test_what_is_not_there(server: Server) -> None:
    with server.one_request(), raises(openai.NotFoundError, code="model_not_found"):
        client(server).models.retrieve("no-such-model")
    with server.one_request(), raises(openai.NotFoundError, status_code=404):
        client(server).get("/no/such/path", cast_to=object)
    with server.one_request(), raises(openai.BadRequestError, code="not_supported"):
        client(server).embeddings.create(model=server.model, input="teff")
    # The name of another service's model is as good as any: the answer has this one's.
    answer = client(server).chat.completions.create(**asked(server, model="gpt-4o", max_tokens=1))
    equal(answer.model, server.model)
