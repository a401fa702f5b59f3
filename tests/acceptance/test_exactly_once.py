"""Every answered request is counted once, whatever is killed while it is served."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import httpx2
import psutil
import psycopg
from tests.acceptance.serving import ADMIN_KEY, ServerProcess, command, serving, until
from tests.acceptance.upstream import running_upstream

from trimtab import Trimtab

VICTIMS = ("web", "shipper", "postgres")
ROUNDS = 3
CALLERS = 4
COUNTS = """
select (select count(*) from trimtab.request_log),
    (select count(distinct id) from trimtab.request_log),
    (select coalesce(sum(requests), 0) from trimtab.rollup_minute),
    (select coalesce(sum(requests), 0) from public.ai_model_usage_analytics),
    (select coalesce(sum(output_tokens), 0) from trimtab.request_log),
    (select coalesce(sum(output_tokens), 0) from trimtab.rollup_minute),
    (select coalesce(sum(output_tokens), 0) from public.ai_model_usage_analytics)
"""


class Load:
    """Callers who ask without a pause and note which requests were answered to the last byte."""

    def __init__(self, url: str) -> None:
        self.answered: list[str] = []
        self.broken = 0
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        body = {"model": "bot", "stream": number % 2 == 0, "messages": [{"role": "user", "content": "Ahoy"}]}
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        with httpx2.Client(timeout=20) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(f"{self._url}/v1/chat/completions", json=body, headers=headers)
                except httpx2.HTTPError:
                    self.broken += 1  # the worker that had it was killed
                    time.sleep(0.05)
                    continue
                assert answer.status_code == 200, answer.text
                self.answered.append(answer.headers["x-request-id"])


def processes(server: ServerProcess, name: str) -> list[psutil.Process]:
    """The processes of one part, PostgreSQL's own server being one."""
    found = []
    for process in psutil.Process(server.process.pid).children():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue  # killed, and not yet reaped
        if name in words or (words and Path(words[0]).name == name):
            found.append(process)
    return found


def test_nothing_is_lost_or_doubled_when_gateway_shipper_and_database_are_killed(tmp_path: Path) -> None:
    chance = random.Random(20260)
    with running_upstream() as upstream, serving(tmp_path / "data") as server:
        with Trimtab(server.url, api_key=ADMIN_KEY) as client:
            model = client.register_existing_model(
                name="bot", endpoint=upstream.url, provider="openai-compatible", version="v1.0.0"
            )
            client.approve_lifecycle(model.lifecycle_id, "admin")
            client.deploy_model(model.lifecycle_id, environment="production", deployment_type="direct", wait=True)
        with Load(server.url) as load:
            for _ in range(ROUNDS):
                for name in chance.sample(VICTIMS, len(VICTIMS)):
                    victims = until(lambda name=name: processes(server, name), f"{name} runs", server.said)
                    answered = len(load.answered)
                    time.sleep(chance.uniform(0.5, 2.0))
                    for victim in victims:
                        victim.kill()
                    until(
                        lambda before=answered: len(load.answered) > before + 20, "requests are answered", server.said
                    )
        answered = set(load.answered)
        assert len(answered) == len(load.answered) > 100
        assert server.process.poll() is None, server.said()
        owner = command("db", "url", "--owner", "--data-dir", str(tmp_path / "data")).stdout.strip()

        def missing() -> set[str] | None:
            with psycopg.connect(owner) as connection:
                there = {str(row[0]) for row in connection.execute("select id from trimtab.request_log")}
            return None if answered - there else there

        shipped = until(missing, "all answered requests are in the request log", server.said)
        # What a killed worker had recorded but not sent to its last byte may be there too, once.
        assert len(shipped - answered) <= load.broken
        with psycopg.connect(owner) as connection:
            row = connection.execute(COUNTS).fetchone()
        assert row is not None
        logged, distinct, in_minutes, in_usage, *tokens = row
        assert logged == distinct == in_minutes == in_usage
        assert tokens[0] == tokens[1] == tokens[2] > 0
