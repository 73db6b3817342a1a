"""Chats by the package openai."""

import asyncio
import json
import re

from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from common import PATIENCE, Server, equal

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is teff?"}]


def client(server: Server, **options) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key=server.key, timeout=PATIENCE, **options)


def asked(server: Server, **fields) -> dict:
    return {"model": server.model, "messages": MESSAGES, "max_tokens": 12, "seed": 5, **fields}


def stop_of(text: str) -> str:
    """A part of a text by which it can be ended, behind its beginning."""
    found = re.search(r"(?<=..)[!-~]{2}", text)
    assert found, f"{text!r} has no two letters"
    return found[0]


def strict(raw) -> ChatCompletion:
    """An answer, of which every field has the type that the client declares."""
    equal(raw.headers["content-type"], "application/json")
    return ChatCompletion.model_validate_json(raw.content, strict=True)


def create(server: Server, **fields) -> ChatCompletion:
    return strict(client(server).chat.completions.with_raw_response.create(**asked(server, **fields)))


def chunks(server: Server, **fields) -> list[ChatCompletionChunk]:
    """The chunks of a stream, each as strict."""
    answer = client(server).chat.completions.with_streaming_response.create(**asked(server, stream=True, **fields))
    with answer as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        data = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    equal(data.pop(), "[DONE]", "the last event")
    return [ChatCompletionChunk.model_validate_json(text, strict=True) for text in data]


def joined(all_chunks: list[ChatCompletionChunk], index: int = 0) -> tuple[str, str]:
    """Text and reason of the end of a choice, in the order in which its parts must come."""
    own = [choice for chunk in all_chunks for choice in chunk.choices if choice.index == index]
    equal(own[0].delta.role, "assistant", "the first role")
    reasons = [choice.finish_reason for choice in own]
    assert reasons[-1] and not any(reasons[:-1]), reasons
    return "".join(choice.delta.content or "" for choice in own), reasons[-1]


def test_a_plain_answer(server: Server) -> None:
    answer = create(server)
    equal((answer.object, answer.model, len(answer.choices)), ("chat.completion", server.model, 1))
    assert answer.id.startswith("chatcmpl-") and answer.created > 1_700_000_000
    (choice,) = answer.choices
    equal((choice.index, choice.finish_reason, choice.message.role), (0, "length", "assistant"))
    assert choice.message.content and choice.message.tool_calls is None
    usage = answer.usage
    equal(usage.completion_tokens, 12)
    equal(usage.total_tokens, usage.prompt_tokens + 12)
    assert usage.prompt_tokens > 10


def test_a_stream(server: Server) -> None:
    whole = create(server)
    all_chunks = chunks(server, stream_options={"include_usage": True})
    equal(len({chunk.id for chunk in all_chunks}), 1, "ids")
    equal({chunk.model for chunk in all_chunks}, {server.model})
    equal(joined(all_chunks), (whole.choices[0].message.content, "length"))
    last = all_chunks[-1]
    equal((last.choices, last.usage.completion_tokens), ([], 12))
    equal(last.usage.prompt_tokens, whole.usage.prompt_tokens)
    assert all(chunk.choices and chunk.usage is None for chunk in all_chunks[:-1])
    assert all(chunk.choices for chunk in chunks(server)), "usage that wasn't asked for"


def test_the_helper_of_streams(server: Server) -> None:
    text = create(server).choices[0].message.content
    # The helper raises where an answer is cut by its limit, so that it has to end otherwise.
    stop = stop_of(text)
    with client(server).chat.completions.stream(**asked(server, stop=stop)) as stream:
        types = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= types, types
    equal(answer.choices[0].message.content, text.split(stop)[0])
    equal(answer.choices[0].finish_reason, "stop")


def test_several_choices(server: Server) -> None:
    answer = create(server, n=2)
    texts = [choice.message.content for choice in answer.choices]
    equal([choice.index for choice in answer.choices], [0, 1])
    equal(answer.usage.completion_tokens, 24, "tokens of both")
    assert texts[0] != texts[1], texts
    all_chunks = chunks(server, n=2)
    equal([joined(all_chunks, i)[0] for i in range(2)], texts)


def test_seeds(server: Server) -> None:
    texts = [create(server, seed=seed).choices[0].message.content for seed in (7, 7, 8)]
    assert texts[0] == texts[1] != texts[2], texts
    greedy = [create(server, seed=seed, temperature=0).choices[0].message.content for seed in (7, 8)]
    equal(greedy[0], greedy[1], "texts without sampling")


def test_ends(server: Server) -> None:
    text = create(server).choices[0].message.content
    stop = stop_of(text)
    for given in (stop, ["never to be seen", stop]):
        choice = create(server, stop=given).choices[0]
        equal((choice.message.content, choice.finish_reason), (text.split(stop)[0], "stop"))
    limited = client(server).chat.completions.create(
        model=server.model, messages=MESSAGES, max_completion_tokens=3, seed=5
    )
    equal((limited.usage.completion_tokens, limited.choices[0].finish_reason), (3, "length"))
    assert text.startswith(limited.choices[0].message.content)
    ended = create(server, logit_bias=server.end_soon())
    equal((ended.choices[0].message.content, ended.choices[0].finish_reason), ("", "stop"))
    equal(create(server, max_tokens=0).usage.completion_tokens, 0)


def test_logprobs(server: Server) -> None:
    answer = create(server, logprobs=True, top_logprobs=3, temperature=0)
    entries = answer.choices[0].logprobs.content
    equal(len(entries), answer.usage.completion_tokens, "entries")
    for entry in entries:
        values = [top.logprob for top in entry.top_logprobs]
        assert len(values) == 3 and values == sorted(values, reverse=True), values
        equal((entry.top_logprobs[0].token, values[0]), (entry.token, entry.logprob), "the most likely")
        assert entry.logprob <= 0
    everything = b"".join(bytes(entry.bytes) for entry in entries)
    equal(everything.decode(errors="replace"), answer.choices[0].message.content, "the text")
    parts = [choice.logprobs.content for chunk in chunks(server, logprobs=True, top_logprobs=3, temperature=0)
             for choice in chunk.choices if choice.logprobs]
    equal([entry for part in parts for entry in part], entries, "those of the stream")
    alone = create(server, logprobs=True).choices[0].logprobs.content
    equal([entry.top_logprobs for entry in alone], [[]] * 12)
    assert create(server).choices[0].logprobs is None


def test_biases(server: Server) -> None:
    token = server.token("a")
    answer = create(server, logit_bias={str(token): 100}, max_tokens=3)
    equal(answer.choices[0].message.content, "aaa")


def test_reasoning(server: Server) -> None:
    thinking = {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}
    message = create(server, **thinking).choices[0].message
    equal(message.content, "")
    thought = message.model_extra["reasoning_content"]
    assert thought
    deltas = [choice.delta for chunk in chunks(server, **thinking) for choice in chunk.choices]
    equal("".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas), thought)


def test_contents_and_roles(server: Server) -> None:
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "teff?"}]
    create(server, messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}])
    begun = create(server, messages=[*MESSAGES, {"role": "assistant", "content": "Teff is a"}])
    assert begun.choices[0].message.content.startswith("Teff is a")


def test_a_company_changes_nothing(server: Server) -> None:
    alone = [create(server, seed=seed).choices[0].message.content for seed in range(4)]

    async def ask(api: AsyncOpenAI, seed: int) -> str:
        stream = await api.chat.completions.create(**asked(server, seed=seed, stream=True))
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def everyone() -> list[str]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.key, timeout=PATIENCE) as api:
            return await asyncio.gather(*(ask(api, seed) for seed in [0, 1, 2, 3] * 3))

    equal(asyncio.run(everyone()), alone * 3)


def test_a_stream_that_is_left(server: Server) -> None:
    generated = server.metric("teff_generated_tokens_total")
    # So many tokens that they take seconds, of which the client waits for the first.
    fields = {"stream": True, "max_tokens": 200, "n": 100, "extra_body": {"ignore_eos": True}}
    stream = client(server).chat.completions.create(**asked(server, **fields))
    next(iter(stream))
    stream.close()
    server.wait_until_idle()
    made = server.metric("teff_generated_tokens_total") - generated
    assert made < 200 * 100, f"{made} tokens were generated"


def test_the_template_as_the_server_tells_it(server: Server) -> None:
    props = json.loads(server.ask("/props"))
    equal(props["chat_template_source"], "option")
    prompt = json.loads(server.ask("/apply-template", {"messages": MESSAGES}))["prompt"]
    assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>\n"), prompt
