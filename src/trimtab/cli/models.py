"""`trimtab models`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli import output
from trimtab.cli.session import Session, with_session
from trimtab.cli.values import configuration, confirm, json_object

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Models.")

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Name or id of a model.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Most rows.")]
Endpoints = Annotated[
    list[str] | None, typer.Option("--endpoint", help="Base URL where it runs; several times for several replicas.")
]
Gguf = Annotated[Path | None, typer.Option("--gguf", help="A local model file that Trimtab shall run itself.")]
UpstreamModel = Annotated[str | None, typer.Option("--upstream-model", help="The model's name at its endpoint.")]
Credential = Annotated[
    str | None, typer.Option("--credential", help="The endpoint's key; `-` reads it from standard input.")
]
Config = Annotated[
    str | None, typer.Option("--config", help="Further deployment_config as a JSON object, or @file.", metavar="JSON")
]
Requirements = Annotated[
    str | None, typer.Option("--requirements", help="performance_requirements, JSON or @file.", metavar="JSON")
]
Resources = Annotated[
    str | None, typer.Option("--resources", help="resource_allocation, JSON or @file.", metavar="JSON")
]


@app.command("list")
@with_session
def list_(session: Session, provider: Annotated[str | None, typer.Option()] = None, limit: Limit = 50) -> None:
    """List models, newest first."""
    session.table(
        islice(session.client.models.list(provider=provider, limit=min(limit, 200)), limit),
        [
            ("NAME", lambda model: model.name),
            ("PROVIDER", lambda model: model.provider),
            ("DESCRIPTION", lambda model: model.description),
            ("CREATED", lambda model: model.created_at),
            ("ID", lambda model: model.id),
        ],
        empty="no models yet; `trimtab models register` adds one",
    )


@app.command("register")
@with_session
def register(
    session: Session,
    name: Annotated[str, typer.Argument(help="What programs will ask for.")],
    version: Annotated[str, typer.Option(help="Tag of its first version.")] = "v1.0.0",
    provider: Annotated[
        str | None, typer.Option(help="openai, anthropic, ... [default: openai-compatible, or local with --gguf]")
    ] = None,
    endpoint: Endpoints = None,
    gguf: Gguf = None,
    upstream_model: UpstreamModel = None,
    credential: Credential = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    config: Config = None,
    requirements: Requirements = None,
    resources: Resources = None,
    price_input: Annotated[
        str | None, typer.Option("--price-input", help="Its own price, USD per million tokens.")
    ] = None,
    price_output: Annotated[
        str | None, typer.Option("--price-output", help="Its own price, USD per million tokens.")
    ] = None,
) -> None:
    """Register a model with its first version, in one call."""
    pricing = None
    if price_input is not None or price_output is not None:
        pricing = {"input": price_input or "0", "output": price_output or "0"}
    model = session.client.register_existing_model(
        name,
        provider=provider or ("local" if gguf else "openai-compatible"),
        version=version,
        deployment_config=configuration(
            config, endpoints=endpoint, gguf=gguf, upstream_model=upstream_model, credential=credential
        ),
        description=description,
        performance_requirements=json_object(requirements, "--requirements"),
        resource_allocation=json_object(resources, "--resources"),
        pricing=pricing,
    )
    session.show(model, lambda: _registered(model.name, version, str(model.lifecycle_id)))


@app.command("get")
@with_session
def get(session: Session, model: ModelName) -> None:
    """Show a model and its versions."""
    found = session.client.models.get(model)
    versions = session.client.lifecycles.list(model_id=found.id).all()

    def people() -> None:
        output.print_fields(
            [
                ("name", found.name),
                ("provider", found.provider),
                ("description", found.description),
                ("tags", found.tags),
                ("created", found.created_at),
                ("id", found.id),
            ]
        )
        output.console().print()
        output.print_table(
            ["VERSION", "STAGE", "APPROVAL", "CREATED", "ID"],
            [(v.version_tag, v.lifecycle_stage, v.approval_status, v.created_at, v.id) for v in versions],
            empty="no versions yet; `trimtab versions create` adds one",
        )

    session.show({**found.model_dump(mode="json"), "lifecycles": versions}, people)


@app.command("delete")
@with_session
def delete(
    session: Session,
    model: ModelName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model with its versions, if nothing of it was ever deployed."""
    found = session.client.models.get(model)
    confirm(f"Delete {found.name} with all its versions?", yes)
    session.client.models.delete(found.id)
    session.show({"deleted": found.id}, lambda: session.say(f"deleted {found.name}"))


@app.command("price")
@with_session
def price(
    session: Session,
    model: ModelName,
    input: Annotated[str, typer.Option("--input", help="USD per million tokens.")],
    output_: Annotated[str, typer.Option("--output", help="USD per million tokens.")],
) -> None:
    """Give a model its own price from now on, instead of the public price list's."""
    found = session.client.models.set_price(model, input=input, output=output_)
    session.show(
        found, lambda: session.say(f"{model} costs ${found.input} in, ${found.output} out, per million tokens")
    )


def _registered(name: str, version: str, lifecycle_id: str) -> None:
    console = output.console()
    console.print(f"registered {name} with version {version} ({lifecycle_id})", markup=False)
    console.print(f"next: trimtab versions approve '{name}@{version}'", markup=False)
