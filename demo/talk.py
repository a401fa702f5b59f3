"""Asks a model through the gateway with the `openai` package, as any program would."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from openai import OpenAI

MAX_TOKENS = 32
AT_ONCE = 2
ROUNDS = 3
QUESTIONS = (
    "What is the capital of France? Answer with one word.",
    "Name three colours of the rainbow.",
    "What do bees make?",
    "How many legs has a spider?",
    "Say hello in Spanish.",
    "What does a rudder do on a ship?",
    "Give me a short name for a sailing boat.",
    "Which planet is closest to the sun?",
    "What is water made of?",
    "Who wrote Hamlet?",
    "What is two plus two?",
    "Name an animal that can fly.",
)


@dataclass(frozen=True)
class Answer:
    """An answer, and what the gateway's headers say of it."""

    question: str
    text: str
    streamed: bool
    version: str
    deployment_id: str
    request_id: str


def ask(url: str, key: str, model: str, question: str, *, streamed: bool) -> Answer:
    """Ask one question."""
    with OpenAI(base_url=f"{url}/v1", api_key=key, timeout=120, max_retries=0) as client:
        messages = [{"role": "user", "content": question}]
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=messages, max_tokens=MAX_TOKENS, stream=streamed
        )
        if streamed:
            with raw.parse() as chunks:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        else:
            text = raw.parse().choices[0].message.content or ""
        return Answer(
            question,
            text,
            streamed,
            version=raw.headers["x-trimtab-version"],
            deployment_id=raw.headers["x-trimtab-deployment"],
            request_id=raw.headers["x-request-id"],
        )


def ask_all(url: str, key: str, model: str) -> Iterator[tuple[Answer, int]]:
    """Ask all questions some times over, two at a time; yields each answer with how many there will be."""
    questions = QUESTIONS * ROUNDS
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        waiting = [
            pool.submit(ask, url, key, model, question, streamed=number % 2 == 0)
            for number, question in enumerate(questions)
        ]
        for done in as_completed(waiting):
            yield done.result(), len(questions)
    finally:
        pool.shutdown(cancel_futures=True)
