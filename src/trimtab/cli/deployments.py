"""`trimtab deploy`, `rollback`, `deployments`, `metrics`."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli import find, output
from trimtab.cli.models import Limit
from trimtab.cli.progress import watching
from trimtab.cli.session import Session, with_session
from trimtab.cli.values import confirm, duration
from trimtab.cli.versions import Version

if TYPE_CHECKING:
    from trimtab.deployments.schemas import Deployment
    from trimtab.monitoring.schemas import MetricSummary

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Deployments: versions that take traffic.")

Target = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Id, or MODEL, MODEL@ENVIRONMENT, MODEL@VERSION.")]
Env = Annotated[str, typer.Option("--env", help="Which environment a bare MODEL means.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return only when it is done.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]
Last = Annotated[str, typer.Option("--last", help="How far back, such as 15m, 1h, 7d.")]

# What of the metrics people see: what it is called here, its name, and which of its figures say something.
FIGURES = (
    ("requests", "requests", ("total",)),
    ("latency", "latency", ("mean", "p50", "p95", "p99")),
    ("time to first token", "ttft", ("mean", "p50", "p95", "p99")),
    ("speed", "tokens_per_second", ("mean", "p50", "p95", "p99")),
    ("errors", "error_rate", ("mean", "total")),
    ("input tokens", "input_tokens", ("mean", "total")),
    ("output tokens", "output_tokens", ("mean", "total")),
    ("cost", "cost", ("mean", "total")),
)


@with_session
def deploy(
    session: Session,
    version: Version,
    env: Annotated[str, typer.Option("--env", help="development, staging or production.")] = "development",
    type_: Annotated[str, typer.Option("--type", help="direct.")] = "direct",
    traffic: Annotated[
        float | None, typer.Option("--traffic", help="Its share in the end, 0 to 100 %. [default: all]")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Processes, where Trimtab runs the model.")] = None,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    wait: Wait = False,
    timeout: Timeout = 900,
) -> None:
    """Deploy a version to an environment."""
    found = find.version(session, version)
    title = f"{found.model_name}@{found.version_tag} to {env}"
    with watching(title, quiet=session.json or not wait) as watch:
        done = session.client.deploy_model(
            found.id,
            environment=env,
            deployment_type=type_,
            traffic_percentage=traffic,
            replicas=replicas,
            deployment_name=name,
            wait=wait,
            timeout=timeout,
            watch=watch,
        )
    session.show(done, lambda: session.say(f"{title}: {_state(done)} ({done.id})"))


@with_session
def rollback(
    session: Session,
    deployment: Target,
    env: Env = "production",
    wait: Wait = False,
    timeout: Timeout = 900,
) -> None:
    """Give the traffic back to the deployment that had it before."""
    found = find.deployment(session, deployment, env)
    title = f"rollback of {found.model_name}@{found.version_tag} in {found.environment}"
    done = session.client.deployments.rollback(found.id)
    if wait:
        with watching(title, quiet=session.json) as watch:
            done = session.client.deployments.wait(found.id, goal="roll_back", timeout=timeout, watch=watch)

    def people() -> None:
        session.say(f"{title}: {done.status_reason or _state(done)}")

    session.show(done, people)


@app.command("list")
@with_session
def list_(
    session: Session,
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only of this model.")] = None,
    env: Annotated[str | None, typer.Option("--env", help="Only in this environment.")] = None,
    status: Annotated[str | None, typer.Option(help="Only in this status.")] = None,
    limit: Limit = 50,
) -> None:
    """List deployments, newest first."""
    model_id = session.client.models.get(model).id if model else None
    found = session.client.deployments.list(model_id=model_id, environment=env, status=status, limit=min(limit, 200))
    session.table(
        islice(found, limit),
        [
            ("VERSION", lambda one: f"{one.model_name}@{one.version_tag}"),
            ("ENVIRONMENT", lambda one: one.environment),
            ("STATUS", lambda one: one.status),
            ("TRAFFIC", lambda one: f"{one.traffic_percentage:g} %"),
            ("CREATED", lambda one: one.created_at),
            ("REASON", lambda one: one.status_reason),
            ("ID", lambda one: one.id),
        ],
        empty="no deployments yet; `trimtab deploy` makes one",
        right=("TRAFFIC",),
    )


@app.command("get")
@with_session
def get(session: Session, deployment: Target, env: Env = "production") -> None:
    """Show a deployment and its replicas."""
    found = find.deployment(session, deployment, env)
    replicas = session.client.deployments.replicas(found.id).all()

    def people() -> None:
        output.print_fields(
            [
                ("deployment", found.deployment_name),
                ("version", f"{found.model_name}@{found.version_tag}"),
                ("environment", found.environment),
                ("type", found.deployment_type),
                ("status", found.status),
                ("reason", found.status_reason),
                ("rollout", found.rollout_phase),
                ("traffic", f"{found.traffic_percentage:g} % (wanted: {found.target_traffic_percentage:g} %)"),
                ("endpoint", found.endpoint_url),
                ("created", found.created_at),
                ("ended", found.ended_at),
                ("id", found.id),
            ]
        )
        output.console().print()
        output.print_table(
            ["REPLICA", "STATUS", "URL", "PID", "RESTARTS", "CPU", "MEMORY", "REASON"],
            [
                (
                    one.ordinal,
                    one.status,
                    one.url,
                    one.pid,
                    one.restarts,
                    None if one.cpu_percent is None else f"{one.cpu_percent:.0f} %",
                    None if one.memory_bytes is None else f"{one.memory_bytes / 2**20:.0f} MB",
                    one.reason,
                )
                for one in replicas
            ],
            empty="no replicas",
        )

    session.show({**found.model_dump(mode="json"), "replica_list": replicas}, people)


@app.command("logs")
@with_session
def logs(
    session: Session,
    deployment: Target,
    env: Env = "production",
    lines: Annotated[int, typer.Option(min=1, help="Most lines of each replica.")] = 100,
) -> None:
    """Show what the processes of a deployment wrote."""
    found = session.client.deployments.logs(find.deployment(session, deployment, env).id, tail=lines).all()

    def people() -> None:
        for log in found:
            for line in log.lines:
                typer.echo(f"{log.ordinal}: {line}" if len(found) > 1 else line)

    session.show({"items": found}, people)


@app.command("events")
@with_session
def events(session: Session, deployment: Target, env: Env = "production", limit: Limit = 50) -> None:
    """Show what happened to a deployment, newest first."""
    found = session.client.deployments.events(find.deployment(session, deployment, env).id, limit=min(limit, 200))
    session.table(
        islice(found, limit),
        [("AT", lambda event: event.at), ("EVENT", lambda event: event.name), ("DATA", lambda event: event.data)],
        empty="nothing has happened to it",
    )


@app.command("health")
@with_session
def health(session: Session, deployment: Target, env: Env = "production") -> None:
    """Show whether a deployment is healthy, and why not."""
    found = session.client.get_model_health(find.deployment(session, deployment, env).id)

    def people() -> None:
        output.print_fields([("status", found.status), ("reasons", found.reasons)])
        output.console().print()
        output.print_table(
            ["CHECK", "STATE", "DETAIL"], [(one.name, one.state, one.detail) for one in found.checks], empty="no checks"
        )

    session.show(found, people)


@with_session
def metrics(
    session: Session,
    deployment: Target,
    env: Env = "production",
    last: Last = "1h",
    step: Annotated[str | None, typer.Option(help="Length of a step of the series in --json, such as 5m.")] = None,
) -> None:
    """Show what a deployment did: latency, tokens, errors, cost, and recorded metrics."""
    found = find.deployment(session, deployment, env)
    end = datetime.now(UTC)
    start = end - duration(last, "--last")
    measured = session.client.get_model_metrics(found.id, start=start, end=end, step=step)

    def people() -> None:
        session.say(f"{found.model_name}@{found.version_tag} in {found.environment}, the last {last}")
        own = [_row(title, measured[name], shown) for title, name, shown in FIGURES if name in measured]
        built_in = {name for _, name, _ in FIGURES} | HIDDEN
        every = ("mean", "p50", "p95", "p99", "total")
        others = [_row(name, one, every) for name, one in measured.items() if name not in built_in]
        output.print_table(
            ["METRIC", "UNIT", "COUNT", "MEAN", "P50", "P95", "P99", "TOTAL"],
            [*own, *others],
            empty="no requests in that time",
            right=("COUNT", "MEAN", "P50", "P95", "P99", "TOTAL"),
        )

    document = {"deployment_id": found.id, "start": start.isoformat(), "end": end.isoformat(), "metrics": measured}
    session.show(document, people)


# Measured, but of no use to most: `--json` has them.
HIDDEN = {
    "throughput",
    "client_errors",
    "clients_gone",
    "retries",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
}

app.command("metrics")(metrics)


@app.command("update")
@with_session
def update(
    session: Session,
    deployment: Target,
    env: Env = "production",
    replicas: Annotated[int | None, typer.Option(help="How many processes.")] = None,
    traffic: Annotated[float | None, typer.Option(help="Its share, 0 to 100 %.")] = None,
) -> None:
    """Change the number of replicas or the share of a deployment."""
    found = find.deployment(session, deployment, env)
    done = session.client.deployments.update(found.id, replicas=replicas, traffic_percentage=traffic)
    session.show(done, lambda: session.say(f"{done.deployment_name}: {_state(done)}"))


@app.command("abort")
@with_session
def abort(session: Session, deployment: Target, env: Env = "production") -> None:
    """End a rollout before it has traffic, or call off a rollback."""
    done = session.client.deployments.abort(find.deployment(session, deployment, env).id)
    session.show(done, lambda: session.say(f"{done.deployment_name}: {_state(done)}"))


@app.command("retry")
@with_session
def retry(session: Session, deployment: Target, env: Env = "production") -> None:
    """Try a deployment again that failed, was aborted or rolled back."""
    done = session.client.deployments.retry(find.deployment(session, deployment, env).id)
    session.show(done, lambda: session.say(f"{done.deployment_name}: {_state(done)}"))


@app.command("retire")
@with_session
def retire(
    session: Session,
    deployment: Target,
    env: Env = "production",
    force: Annotated[bool, typer.Option("--force", help="Also the only one with traffic on its route.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a deployment out of service."""
    found = find.deployment(session, deployment, env)
    confirm(f"Take {found.deployment_name} ({found.traffic_percentage:g} % of the traffic) out of service?", yes)
    done = session.client.deployments.retire(found.id, force=force)
    session.show(done, lambda: session.say(f"{done.deployment_name}: {_state(done)}"))


def _state(deployment: Deployment) -> str:
    share = f"{deployment.traffic_percentage:g} % of the traffic"
    if deployment.ending_status is not None:
        return f"{deployment.status}, on its way to {deployment.ending_status}, {share}"
    return f"{deployment.status} ({deployment.rollout_phase}), {share}"


def _row(title: str, summary: MetricSummary, shown: tuple[str, ...]) -> tuple[Any, ...]:
    def figure(name: str) -> str:
        if name not in shown:
            return output.NOTHING
        value = getattr(summary, name)
        if summary.unit == "USD":
            return output.usd(value)
        return output.percent(value) if summary.unit == "fraction" and name != "total" else output.number(value)

    figures = [figure(name) for name in ("mean", "p50", "p95", "p99", "total")]
    return (title, summary.unit, f"{summary.count:,}", *figures)
