"""`trimtab usage`, `requests`, `status`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli import find, output
from trimtab.cli.models import Limit
from trimtab.cli.session import Session, with_session
from trimtab.cli.values import duration

if TYPE_CHECKING:
    from trimtab.usage.schemas import RequestDetail, UsageCounts

requests = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What the gateway was asked.")

NAMES = {"model": "model", "deployment": "deployment", "version": "version_tag", "key": "key"}
METERED_WITHIN = 30.0
POLL_SECONDS = 0.25


@with_session
def usage(
    session: Session,
    by: Annotated[
        str, typer.Option("--by", help="model, deployment, version, key, provider, upstream_model, day; with commas.")
    ] = "model",
    last: Annotated[str, typer.Option("--last", help="How far back, in whole days, such as 30d.")] = "30d",
    model: Annotated[str | None, typer.Option("--model", help="Only of this model.")] = None,
) -> None:
    """Show requests, tokens and cost."""
    groups = [group.strip() for group in by.split(",")]
    model_id = session.client.models.get(model).id if model else None
    end = datetime.now(UTC)
    found = session.client.usage.get(start=end - duration(last, "--last"), end=end, group_by=groups, model_id=model_id)

    def people() -> None:
        rows = [[*(getattr(item, NAMES.get(group, group)) for group in groups), *_counts(item)] for item in found.items]
        if rows:
            rows.append(["total", *[""] * (len(groups) - 1), *_counts(found.totals)])
        columns = ["REQUESTS", "ERRORS", "INPUT TOKENS", "OUTPUT TOKENS", "COST"]
        output.print_table(
            [*(group.upper() for group in groups), *columns], rows, empty="nothing was used", right=columns
        )

    session.show(found, people)


@requests.command("list")
@with_session
def list_(
    session: Session,
    deployment: Annotated[
        str | None, typer.Option("--deployment", help="Only what it served: id, MODEL, MODEL@VERSION.")
    ] = None,
    status: Annotated[str | None, typer.Option(help="Only 2xx, 3xx, 4xx, 5xx, or error.")] = None,
    limit: Limit = 20,
) -> None:
    """List requests that have ended, newest first."""
    deployment_id = find.deployment(session, deployment, "production").id if deployment else None
    found = session.client.requests.list(deployment_id=deployment_id, status=status, limit=min(limit, 200))
    session.table(
        islice(found, limit),
        [
            ("STARTED", lambda one: one.started_at),
            ("MODEL", lambda one: one.requested_model),
            ("VERSION", lambda one: one.version_tag),
            ("STATUS", lambda one: one.error_code or one.status),
            ("LATENCY", lambda one: output.milliseconds(one.latency_us / 1000)),
            ("IN", lambda one: one.input_tokens + one.cache_read_tokens + one.cache_write_tokens),
            ("OUT", lambda one: one.output_tokens),
            ("COST", lambda one: output.usd(one.cost_usd)),
            ("ID", lambda one: one.id),
        ],
        empty="no requests yet",
        right=("LATENCY", "IN", "OUT", "COST"),
    )


@requests.command("get")
@with_session
def get(
    session: Session,
    request_id: Annotated[str, typer.Argument(metavar="ID", help="As in the answer's x-request-id.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has been metered, up to half a minute.")] = False,
) -> None:
    """Show what served a request, approved by whom, on which evidence."""
    from trimtab.client.errors import NotFoundError

    deadline = time.monotonic() + (METERED_WITHIN if wait else 0)
    while True:
        try:
            found = session.client.requests.get(request_id)
            break
        except NotFoundError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)
    session.show(found, lambda: _show(found))


@with_session
def status(session: Session) -> None:
    """Show whether the server answers, and what serves."""
    me = session.client.session.get()
    live = session.client.deployments.list(active=True, limit=200).all()

    def people() -> None:
        console = output.console()
        console.print(f"Trimtab answers at {session.client.url}; you are {me.member_name} ({me.role})", markup=False)
        output.print_table(
            ["VERSION", "ENVIRONMENT", "STATUS", "TRAFFIC", "REASON"],
            [
                (
                    f"{one.model_name}@{one.version_tag}",
                    one.environment,
                    one.status,
                    f"{one.traffic_percentage:g} %",
                    one.status_reason,
                )
                for one in live
            ],
            empty="nothing is deployed",
            right=("TRAFFIC",),
        )

    session.show({"url": session.client.url, "session": me, "deployments": live}, people)


def _counts(counts: UsageCounts) -> list[str]:
    prompt = counts.input_tokens + counts.cache_read_tokens + counts.cache_write_tokens
    numbers = [f"{number:,}" for number in (counts.requests, counts.errors, prompt, counts.output_tokens)]
    return [*numbers, output.usd(counts.cost_usd)]


def _show(request: RequestDetail) -> None:
    approval = request.approval
    output.print_fields(
        [
            ("request", request.id),
            ("started", request.started_at),
            ("asked for", request.requested_model),
            ("status", request.error_code or request.status),
            ("served by", f"{request.model}@{request.version_tag}" if request.version_tag else None),
            ("deployment", request.deployment and f"{request.deployment} ({request.deployment_type})"),
            ("deployed", request.deployed_at and f"{output.cell(request.deployed_at)} by {request.deployed_by}"),
            ("approval", approval and approval.approval_status),
            ("approved", approval and f"{output.cell(approval.approved_at)} by {approval.approver}"),
            ("comment", approval and approval.comment),
            ("evidence", approval and approval.evidence),
            ("latency", output.milliseconds(request.latency_us / 1000)),
            ("first token", None if request.ttft_us is None else output.milliseconds(request.ttft_us / 1000)),
            ("tokens", f"{request.input_tokens + request.cache_read_tokens} in, {request.output_tokens} out"),
            ("cost", output.usd(request.cost_usd)),
            ("routing revision", request.routing_revision),
        ]
    )
