"""`trimtab versions`, also called `trimtab lifecycles`."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli import find, output
from trimtab.cli.models import (
    Config,
    Credential,
    Endpoints,
    Gguf,
    Limit,
    ModelName,
    Requirements,
    Resources,
    UpstreamModel,
)
from trimtab.cli.session import Session, with_session
from trimtab.cli.values import configuration, duration, json_object

if TYPE_CHECKING:
    from trimtab.registry.schemas import Lifecycle

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Versions of models, and their approval.")

Version = Annotated[str, typer.Argument(metavar="VERSION", help="MODEL@VERSION, or the version's id.")]
Comment = Annotated[str | None, typer.Option("--comment", help="Why; kept in the history.")]
Evidence = Annotated[str | None, typer.Option("--evidence", help="On which evidence, JSON or @file.", metavar="JSON")]
Approver = Annotated[str | None, typer.Option("--approver", help="Your own name; checked against your key.")]


@app.command("list")
@with_session
def list_(
    session: Session,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only of this model.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only in this stage.")] = None,
    approval: Annotated[str | None, typer.Option(help="Only with this approval status.")] = None,
    limit: Limit = 50,
) -> None:
    """List versions, newest first."""
    model_id = session.client.models.get(model).id if model else None
    found = session.client.lifecycles.list(
        model_id=model_id, lifecycle_stage=stage, approval_status=approval, limit=min(limit, 200)
    )
    session.table(
        islice(found, limit),
        [
            ("VERSION", lambda item: f"{item.model_name}@{item.version_tag}"),
            ("STAGE", lambda item: item.lifecycle_stage),
            ("APPROVAL", lambda item: item.approval_status),
            ("BY", lambda item: item.decided_by_name),
            ("CREATED", lambda item: item.created_at),
            ("ID", lambda item: item.id),
        ],
        empty="no versions yet; `trimtab models register` or `trimtab versions create` adds one",
    )


@app.command("get")
@with_session
def get(session: Session, version: Version) -> None:
    """Show a version."""
    found = find.version(session, version)
    session.show(found, lambda: _show(found))


@app.command("create")
@with_session
def create(
    session: Session,
    model: ModelName,
    tag: Annotated[str, typer.Argument(help="Tag of the version, such as v1.1.0.")],
    endpoint: Endpoints = None,
    gguf: Gguf = None,
    upstream_model: UpstreamModel = None,
    credential: Credential = None,
    config: Config = None,
    requirements: Requirements = None,
    resources: Resources = None,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
) -> None:
    """Create a version of a model."""
    created = session.client.create_model_lifecycle(
        session.client.models.get(model).id,
        tag,
        deployment_config=configuration(
            config, endpoints=endpoint, gguf=gguf, upstream_model=upstream_model, credential=credential
        ),
        performance_requirements=json_object(requirements, "--requirements"),
        resource_allocation=json_object(resources, "--resources"),
        description=description,
    )
    session.show(created, lambda: session.say(f"created {created.model_name}@{created.version_tag} ({created.id})"))


@app.command("approve")
@with_session
def approve(
    session: Session,
    version: Version,
    comment: Comment = None,
    evidence: Evidence = None,
    approver: Approver = None,
    max_traffic: Annotated[
        float | None, typer.Option("--max-traffic", help="Approve on the condition of at most this % of traffic.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option("--expires-in", help="Approve until then only, such as 7d.")] = None,
) -> None:
    """Approve a version, or approve it on conditions."""
    conditions: dict[str, Any] = {}
    if max_traffic is not None:
        conditions["max_traffic_percentage"] = max_traffic
    if expires_in is not None:
        conditions["expires_at"] = datetime.now(UTC) + duration(expires_in, "--expires-in")
    done = session.client.lifecycles.approve(
        find.version(session, version).id,
        approver,
        comment=comment,
        evidence=json_object(evidence, "--evidence"),
        conditions=conditions or None,
    )
    session.show(done, lambda: _decided(session, done))


@app.command("reject")
@with_session
def reject(
    session: Session, version: Version, comment: Comment = None, evidence: Evidence = None, approver: Approver = None
) -> None:
    """Reject a version; what is deployed of it is no longer served in production."""
    done = session.client.reject_lifecycle(
        find.version(session, version).id, approver, comment=comment, evidence=json_object(evidence, "--evidence")
    )
    session.show(done, lambda: _decided(session, done))


@app.command("transition")
@with_session
def transition(
    session: Session,
    version: Version,
    stage: Annotated[str, typer.Argument(help="development, testing, staging, production, deprecated or retired.")],
    comment: Comment = None,
) -> None:
    """Move a version to another stage."""
    done = session.client.lifecycles.transition(find.version(session, version).id, stage, comment=comment)
    session.show(done, lambda: session.say(f"{done.model_name}@{done.version_tag} is in stage {done.lifecycle_stage}"))


@app.command("history")
@with_session
def history(session: Session, version: Version, limit: Limit = 50) -> None:
    """Show each step in the life of a version: who, when, why."""
    events = session.client.lifecycles.history(find.version(session, version).id, limit=min(limit, 200))
    session.table(
        islice(events, limit),
        [
            ("AT", lambda event: event.at),
            ("EVENT", lambda event: event.event),
            ("FROM", lambda event: event.from_value),
            ("TO", lambda event: event.to_value),
            ("BY", lambda event: event.actor_name),
            ("COMMENT", lambda event: event.comment),
            ("EVIDENCE", lambda event: event.evidence),
        ],
        empty="nothing has happened to it",
    )


def _decided(session: Session, version: Lifecycle) -> None:
    session.say(
        f"{version.model_name}@{version.version_tag} is {version.approval_status} (by {version.decided_by_name})"
    )


def _show(version: Lifecycle) -> None:
    output.print_fields(
        [
            ("version", f"{version.model_name}@{version.version_tag}"),
            ("stage", version.lifecycle_stage),
            ("approval", version.approval_status),
            ("conditions", version.approval_conditions and version.approval_conditions.model_dump(exclude_none=True)),
            ("decided by", version.decided_by_name),
            ("decided", version.decided_at),
            ("deployment_config", version.deployment_config),
            ("performance_requirements", version.performance_requirements),
            ("resource_allocation", version.resource_allocation),
            ("description", version.description),
            ("created", version.created_at),
            ("id", version.id),
        ]
    )
