"""Models, texts and responses by the package openai."""

from openai.types import Completion, Model
from openai.types.responses import Response

from common import Server, equal
from openai_chat import client
from openai_structured import Grain, Weather

PROMPT = "Once upon a time"


def test_models(server: Server) -> None:
    (model,) = client(server).models.list().data
    Model.model_validate(model.model_dump(), strict=True)
    equal(model.id, server.model)
    equal(client(server).models.retrieve(server.model), model)


def complete(server: Server, **fields) -> Completion:
    fields = {"model": server.model, "prompt": PROMPT, "max_tokens": 8, "seed": 5, **fields}
    return client(server).completions.create(**fields)


def test_texts(server: Server) -> None:
    answer = complete(server, logprobs=2)
    Completion.model_validate(answer.model_dump(), strict=True)
    (choice,) = answer.choices
    equal((answer.object, answer.model, choice.finish_reason), ("text_completion", server.model, "length"))
    lists = choice.logprobs
    equal({len(part) for part in (lists.tokens, lists.token_logprobs, lists.top_logprobs, lists.text_offset)}, {8})
    assert complete(server).choices[0].logprobs is None
    chunks = list(complete(server, stream=True, stream_options={"include_usage": True}))
    equal("".join(choice.text for chunk in chunks for choice in chunk.choices), choice.text)
    equal((chunks[-1].choices, chunks[-1].usage.completion_tokens), ([], 8))


def test_texts_and_their_prompts(server: Server) -> None:
    alone = complete(server).choices[0].text
    choice = complete(server, echo=True, logprobs=1).choices[0]
    equal(choice.text, PROMPT + alone)
    lists = choice.logprobs
    equal((lists.token_logprobs[0], lists.top_logprobs[0], lists.text_offset[0]), (None, None, 0))
    assert all(value <= 0 for value in lists.token_logprobs[1:])
    n = len(lists.tokens) - 8
    equal("".join(lists.tokens[:n]), PROMPT)
    equal(lists.text_offset[n], len(PROMPT), "where the answer begins")
    # Programs that rate texts ask for no more than the prompt.
    rated = complete(server, echo=True, logprobs=1, max_tokens=0)
    equal((rated.choices[0].text, rated.usage.completion_tokens), (PROMPT, 0))
    equal(rated.choices[0].logprobs.token_logprobs, lists.token_logprobs[:n])


def test_several_prompts(server: Server) -> None:
    alone = [complete(server, prompt=prompt).choices[0].text for prompt in (PROMPT, "The end")]
    both = complete(server, prompt=[PROMPT, "The end"])
    equal([(choice.index, choice.text) for choice in both.choices], list(enumerate(alone)))
    tokens = [server.token("a"), server.token("b")]
    equal(complete(server, prompt=tokens, echo=True, max_tokens=0).choices[0].text, "ab")


def respond(server: Server, **fields) -> dict:
    fields = {"model": server.model, "input": "What is teff?", "max_output_tokens": 200, **fields}
    return {**fields, "extra_body": {"seed": 5, **fields.pop("extra_body", {})}}


def strict(response: Response) -> Response:
    return Response.model_validate_json(response.model_dump_json(exclude_unset=True), strict=True)


def test_a_response(server: Server) -> None:
    answer = strict(client(server).responses.create(**respond(server, instructions="Be brief.", max_output_tokens=16)))
    equal((answer.object, answer.status, answer.incomplete_details.reason), ("response", "incomplete", "max_output_tokens"))
    assert answer.output_text
    equal(answer.usage.output_tokens, 16)
    equal(answer.usage.total_tokens, answer.usage.input_tokens + 16)


def test_a_response_in_a_stream(server: Server) -> None:
    fields = respond(server, max_output_tokens=16)
    whole = client(server).responses.create(**fields).output_text
    with client(server).responses.stream(**fields) as stream:
        events = list(stream)
    equal([event.sequence_number for event in events], list(range(len(events))))
    types = list(dict.fromkeys(event.type for event in events))
    wanted = ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
              "output_text.done", "content_part.done", "output_item.done", "incomplete"]
    equal(types, [f"response.{name}" for name in wanted])
    equal("".join(event.delta for event in events if event.type == "response.output_text.delta"), whole)
    equal(strict(events[-1].response).output_text, whole)


def test_a_response_of_a_schema(server: Server) -> None:
    answer = client(server).responses.parse(**respond(server, text_format=Grain))
    equal(answer.status, "completed")
    assert isinstance(answer.output_parsed, Grain)


def test_a_response_that_calls(server: Server) -> None:
    tool = {"type": "function", "name": "Weather", "parameters": Weather.model_json_schema(), "strict": True}
    fields = respond(server, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    answer = strict(client(server).responses.create(**fields))
    (call,) = [item for item in answer.output if item.type == "function_call"]
    Weather.model_validate_json(call.arguments)
    with client(server).responses.stream(**fields) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.done"]
    equal([event.arguments for event in done], [call.arguments])
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    said = [{"role": "user", "content": "Well?"}, *[item.to_dict() for item in answer.output], result]
    after = client(server).responses.create(**respond(server, input=said, tools=[tool], max_output_tokens=16))
    assert after.output_text


def test_log_probabilities_of_a_response(server: Server) -> None:
    fields = respond(server, include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=16)
    (item,) = client(server).responses.create(**fields).output
    equal([len(entry.top_logprobs) for entry in item.content[0].logprobs], [2] * 16)
