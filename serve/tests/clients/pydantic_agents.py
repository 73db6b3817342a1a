"""Agents of pydantic-ai, which checks answers strictly."""

import asyncio

from pydantic_ai import Agent, ModelHTTPError, NativeOutput, capture_run_messages
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from common import Server, equal
from openai_structured import Grain


def agent(server: Server, model=OpenAIChatModel, key: str = "", **options) -> Agent:
    provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key=key or server.key)
    settings = {"max_tokens": 200, "seed": 5, "extra_body": {"seed": 5}}
    made = model(server.model, provider=provider, settings=settings)
    return Agent(made, instructions="Be brief.", retries=0, **options)


def test_texts(server: Server) -> None:
    for model in (OpenAIChatModel, OpenAIResponsesModel):
        settings = {"max_tokens": 16}
        result = agent(server, model).run_sync("What is teff?", model_settings=settings)
        assert result.output
        equal(result.usage.output_tokens, 16)
        more = agent(server, model).run_sync("And fonio?", message_history=result.all_messages(), model_settings=settings)
        equal(len(more.all_messages()), 4)


def test_streams(server: Server) -> None:
    async def ask(model) -> tuple[str, int]:
        async with agent(server, model).run_stream("What is teff?", model_settings={"max_tokens": 16}) as result:
            pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
            return "".join(pieces), result.usage.output_tokens

    for model in (OpenAIChatModel, OpenAIResponsesModel):
        text, tokens = asyncio.run(ask(model))
        assert text
        equal(tokens, 16)


def test_outputs(server: Server) -> None:
    # By a tool that must be called, and by a schema.
    for model in (OpenAIChatModel, OpenAIResponsesModel):
        for output in (Grain, NativeOutput(Grain)):
            assert isinstance(agent(server, model, output_type=output).run_sync("Which grain?").output, Grain)


def test_outputs_in_streams(server: Server) -> None:
    async def ask(output) -> Grain:
        async with agent(server, output_type=output).run_stream("Which grain?") as result:
            return await result.get_output()

    for output in (Grain, NativeOutput(Grain)):
        assert isinstance(asyncio.run(ask(output)), Grain)


def test_tools(server: Server) -> None:
    asked = []

    def weather(town: str) -> str:
        asked.append(town)
        return "sunny"

    with capture_run_messages() as messages:
        result = agent(server, tools=[weather]).run_sync("Aksum?", model_settings={"max_tokens": 16})
    assert result.output and not asked and len(messages) == 2


def test_errors(server: Server) -> None:
    for key, settings, status in (("wrong", {}, 401), ("", {"temperature": -1}, 400)):
        with server.one_request():
            try:
                agent(server, key=key).run_sync("Hello", model_settings=settings)
            except ModelHTTPError as error:
                equal(error.status_code, status)
                assert error.body["message"], error.body
            else:
                raise AssertionError("there was no error")
