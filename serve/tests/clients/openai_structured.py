"""Schemas and tools by the package openai.

The model's weights are random, so that every form here is the work of a grammar.
"""

import json
from typing import Literal

import openai
from pydantic import BaseModel, Field

from common import Server, equal
from openai_chat import asked, chunks, client, create, joined


class Grain(BaseModel):
    """A schema of which every text ends soon."""

    name: Literal["teff", "fonio", "sorghum"]
    ripe: bool
    bags: int = Field(ge=0, le=99)


class Weather(BaseModel):
    """Tells the weather of a town."""

    town: Literal["Aksum", "Gondar"]
    days: int = Field(ge=1, le=7)


class Harvest(BaseModel):
    """Tells whether the harvest has begun."""

    begun: bool


LENGTH = {"max_tokens": 200}
TOOLS = [openai.pydantic_function_tool(Weather), openai.pydantic_function_tool(Harvest)]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "grain", "strict": True, "schema": Grain.model_json_schema()}}


def test_a_schema_is_parsed(server: Server) -> None:
    for seed in range(3):
        fields = asked(server, seed=seed, **LENGTH)
        answer = client(server).chat.completions.parse(**fields, response_format=Grain)
        assert isinstance(answer.choices[0].message.parsed, Grain)
        equal(answer.choices[0].finish_reason, "stop")


def test_a_schema_in_a_stream(server: Server) -> None:
    whole = create(server, response_format=SCHEMA, **LENGTH).choices[0].message.content
    Grain.model_validate_json(whole)
    equal(joined(chunks(server, response_format=SCHEMA, **LENGTH)), (whole, "stop"))
    with client(server).chat.completions.stream(**asked(server, response_format=Grain, **LENGTH)) as stream:
        done = [event for event in stream if event.type == "content.done"]
    equal(done[0].parsed, Grain.model_validate_json(whole))


def test_any_object(server: Server) -> None:
    closed = {"logit_bias": {str(server.token("}")): 100}}
    answer = create(server, response_format={"type": "json_object"}, **closed)
    equal((json.loads(answer.choices[0].message.content), answer.choices[0].finish_reason), ({}, "stop"))


def calls_of(message) -> list[tuple[str, dict]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


def test_tools_that_are_required(server: Server) -> None:
    names = set()
    for seed in range(6):
        fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "seed": seed, **LENGTH}
        choice = create(server, **fields).choices[0]
        equal((choice.finish_reason, choice.message.content), ("tool_calls", None))
        ((name, arguments),) = calls_of(choice.message)
        {"Weather": Weather, "Harvest": Harvest}[name].model_validate(arguments)
        names.add(name)
        (call,) = choice.message.tool_calls
        assert call.id and call.type == "function"
    equal(names, {"Weather", "Harvest"}, "the tools that were called")


def test_a_tool_by_its_name(server: Server) -> None:
    chosen = {"type": "function", "function": {"name": "Harvest"}}
    choice = create(server, tools=TOOLS, tool_choice=chosen, **LENGTH).choices[0]
    ((name, arguments),) = calls_of(choice.message)
    equal(name, "Harvest")
    Harvest.model_validate(arguments)


def test_several_calls(server: Server) -> None:
    numbers = set()
    for seed in range(6):
        fields = {"tools": TOOLS, "tool_choice": "required", "seed": seed, "max_tokens": 1000}
        whole = create(server, **fields).choices[0].message
        numbers.add(len(calls_of(whole)))
        with client(server).chat.completions.stream(**asked(server, **fields)) as stream:
            streamed = stream.get_final_completion().choices[0].message
        equal(calls_of(streamed), calls_of(whole))
        for message in (whole, streamed):
            equal(len({call.id for call in message.tool_calls}), len(message.tool_calls), "ids")
    assert max(numbers) > 1, numbers


def test_tools_in_a_stream(server: Server) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, **LENGTH}
    whole = create(server, **fields).choices[0].message.tool_calls[0]
    all_chunks = chunks(server, **fields)
    deltas = [choice.delta.tool_calls for chunk in all_chunks for choice in chunk.choices if choice.delta.tool_calls]
    first, *rest = [delta for part in deltas for delta in part]
    assert first.id and first.type == "function" and first.index == 0
    equal(first.function.name, whole.function.name)
    assert all(d.id is None and d.type is None and d.function.name is None and d.index == 0 for d in rest), rest
    equal("".join(d.function.arguments for d in [first, *rest]), whole.function.arguments)
    equal(joined(all_chunks)[1], "tool_calls")


def test_the_helper_of_streams_with_tools(server: Server) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, **LENGTH}
    with client(server).chat.completions.stream(**asked(server, **fields)) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        message = stream.get_final_completion().choices[0].message
    assert done and len(message.tool_calls) == len(done)
    for call in message.tool_calls:
        assert isinstance(call.function.parsed_arguments, (Weather, Harvest))


def test_calls_and_their_results_go_back(server: Server) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, **LENGTH}
    message = create(server, **fields).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    messages = [{"role": "user", "content": "Well?"}, message.model_dump(exclude_none=True), result]
    for choice in ("auto", "none"):
        answer = create(server, messages=messages, tools=TOOLS, tool_choice=choice).choices[0]
        equal((answer.message.role, answer.message.tool_calls), ("assistant", None))
        assert answer.message.content
    again = create(server, **{**fields, "messages": messages})
    assert calls_of(again.choices[0].message)


def test_tools_beside_log_probabilities(server: Server) -> None:
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, **LENGTH}
    fields |= {"logprobs": True, "top_logprobs": 1}
    answer = create(server, **fields)
    equal(len(answer.choices[0].logprobs.content), answer.usage.completion_tokens)
    equal(joined(chunks(server, **fields))[1], "tool_calls")
