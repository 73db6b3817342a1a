"""Messages by the package anthropic."""

import anthropic
from anthropic.types import Message

from common import PATIENCE, Server, equal, raises
from openai_chat import stop_of
from openai_structured import Grain, Weather

TOOL = {"name": "Weather", "description": "Tells the weather.", "input_schema": Weather.model_json_schema()}


def client(server: Server, key: str = "") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=key or server.key, timeout=PATIENCE)


def asked(server: Server, **fields) -> dict:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is teff?"}]}]
    fields = {"model": server.model, "max_tokens": 12, "system": "Be brief.", "messages": messages, **fields}
    return {**fields, "extra_body": {"seed": 5, **fields.pop("extra_body", {})}}


def create(server: Server, **fields) -> Message:
    raw = client(server).messages.with_raw_response.create(**asked(server, **fields))
    return Message.model_validate_json(raw.read(), strict=True)


def test_a_message(server: Server) -> None:
    message = create(server)
    equal((message.type, message.role, message.model), ("message", "assistant", server.model))
    equal((message.stop_reason, message.usage.output_tokens), ("max_tokens", 12))
    (block,) = message.content
    assert block.type == "text" and block.text
    begun = create(server, messages=[*asked(server)["messages"], {"role": "assistant", "content": "Teff is"}])
    assert begun.content[0].text and not begun.content[0].text.startswith("Teff is")


def test_a_stream(server: Server) -> None:
    whole = create(server)
    with client(server).messages.stream(**asked(server)) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    equal(text, whole.content[0].text)
    equal((message.stop_reason, message.usage.output_tokens), ("max_tokens", 12))
    types = [event.type for event in client(server).messages.create(**asked(server, stream=True))]
    equal((types[0], types[-2:]), ("message_start", ["message_delta", "message_stop"]))


def test_stop_sequences(server: Server) -> None:
    text = create(server).content[0].text
    stop = stop_of(text)
    message = create(server, stop_sequences=["never to be seen", stop])
    equal((message.stop_reason, message.stop_sequence), ("stop_sequence", stop))
    equal(message.content[0].text, text.split(stop)[0])


def test_tools(server: Server) -> None:
    for choice in ({"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "Weather"}):
        fields = {"tools": [TOOL], "tool_choice": choice, "max_tokens": 200}
        message = create(server, **fields)
        (call,) = message.content
        equal((message.stop_reason, call.type, call.name), ("tool_use", "tool_use", "Weather"))
        Weather.model_validate(call.input)
        with client(server).messages.stream(**asked(server, **fields)) as stream:
            streamed = stream.get_final_message()
        equal([block.input for block in streamed.content], [call.input])
        equal(streamed.stop_reason, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    said = [*asked(server)["messages"], {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]}]
    after = create(server, messages=said, tools=[TOOL])
    equal(after.content[0].type, "text")


def test_schemas(server: Server) -> None:
    format = {"type": "json_schema", "schema": Grain.model_json_schema()}
    message = create(server, output_config={"format": format}, max_tokens=200)
    Grain.model_validate_json(message.content[0].text)


def test_thinking(server: Server) -> None:
    message = create(server, thinking={"type": "adaptive"})
    equal([block.type for block in message.content], ["thinking"])
    with client(server).messages.stream(**asked(server, thinking={"type": "adaptive"})) as stream:
        equal(stream.get_final_message().content[0].thinking, message.content[0].thinking)


def test_counts(server: Server) -> None:
    fields = {name: asked(server)[name] for name in ("model", "system", "messages")}
    count = client(server).messages.count_tokens(**fields).input_tokens
    usage = create(server).usage
    equal(usage.input_tokens + usage.cache_read_input_tokens, count)


def test_errors(server: Server) -> None:
    with server.one_request(), raises(anthropic.AuthenticationError, status_code=401, type="authentication_error"):
        client(server, "wrong").messages.create(**asked(server))
    for fields in ({"max_tokens": "many"}, {"messages": []}, {"tool_choice": {"type": "any"}}, {"stream": "yes"},
                   {"messages": [{"role": "user", "content": "teff " * 20_000}]}):
        with server.one_request(), raises(anthropic.BadRequestError, status_code=400, type="invalid_request_error"):
            client(server).messages.create(**asked(server, **fields))
    with server.one_request(), raises(anthropic.NotFoundError, status_code=404, type="not_found_error"):
        client(server).get("/v1/no/such/path", cast_to=object)
