"""The SQL of deployments, replicas and what decisions about them read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from trimtab.db.database import Connection
from trimtab.deployments.records import Deployment, Gateway, Replica, Runner, Use
from trimtab.deployments.states import may_follow
from trimtab.ids import new_id

RUNNER_LEASE = "15 seconds"
COLUMNS = sql.SQL(
    "id, workspace_id, model_id, lifecycle_id, deployment_name, environment, deployment_type, status, status_reason, "
    "rollout_phase, endpoint_url, traffic_percentage, target_traffic_percentage, replicas, config, "
    "previous_deployment_id, revived_for, cutover_revision, ending_status, draining_since, deadline_at, started_at, "
    "created_by, created_at, updated_at, ended_at, version"
)
REPLICA_COLUMNS = sql.SQL(
    "id, workspace_id, deployment_id, ordinal, kind, spec, desired, generation, released_at, released_revision, "
    "runner_id, status, reason, url, pid, restarts, cpu_percent, memory_bytes, changed_at"
)
# A process does not outlive its runner, so what a row says of it holds only while the runner lives.
REPLICAS_OF = sql.SQL(
    """
select id, workspace_id, deployment_id, ordinal, kind, spec, desired, generation, released_at, released_revision,
    runner_id, case when lost then 'pending' else status end as status,
    case when lost then 'its runner is gone' else reason end as reason, case when lost then null else url end as url,
    pid, restarts, cpu_percent, memory_bytes, changed_at
from (
    select r.*, r.kind = 'process' and r.status in ('starting', 'ready', 'unhealthy')
        and not trimtab.runner_lives(r.runner_id) as lost
    from trimtab.replicas r where deployment_id = any(%s)
) seen order by deployment_id, ordinal
"""
)


class StaleError(Exception):
    """The row was changed by someone else since it was read."""


async def notify(connection: Connection) -> None:
    """Wake the controllers and runners at commit."""
    await connection.execute("select pg_notify('trimtab_deployments', '')")


async def insert(connection: Connection, values: Mapping[str, Any]) -> Deployment:
    """Insert a deployment and return its row."""
    statement = sql.SQL("insert into public.ai_model_deployments ({}) values ({}) returning {}").format(
        sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(sql.Placeholder() * len(values)), COLUMNS
    )
    async with connection.cursor(row_factory=class_row(Deployment)) as cursor:
        row = await (await cursor.execute(statement, [_adapt(value) for value in values.values()])).fetchone()
    assert row is not None
    return row


async def get(connection: Connection, deployment_id: UUID) -> Deployment | None:
    """One deployment that the caller may see."""
    query = sql.SQL("select {} from public.ai_model_deployments where id = %s").format(COLUMNS)
    async with connection.cursor(row_factory=class_row(Deployment)) as cursor:
        return await (await cursor.execute(query, (deployment_id,))).fetchone()


async def page(
    connection: Connection, filters: Mapping[str, Any], active: bool | None, after: UUID | None, limit: int
) -> list[Deployment]:
    """Deployments the caller may see, newest first.

    Parameters:
        filters: column -> value. active: only those that have not ended (True) or have (False). limit: most rows.
    """
    conditions = [sql.SQL("true")] + [sql.SQL("{} = %s").format(sql.Identifier(column)) for column in filters]
    values = list(filters.values())
    if active is not None:
        conditions.append(sql.SQL("ended_at is null" if active else "ended_at is not null"))
    if after is not None:
        conditions.append(sql.SQL("id < %s"))
        values.append(after)
    query = sql.SQL("select {} from public.ai_model_deployments where {} order by id desc limit %s").format(
        COLUMNS, sql.SQL(" and ").join(conditions)
    )
    async with connection.cursor(row_factory=class_row(Deployment)) as cursor:
        return await (await cursor.execute(query, [*values, limit])).fetchall()


async def live(connection: Connection, model_id: UUID | None = None) -> list[Deployment]:
    """The deployments (of a model) that have not ended, and those that a live one may be rolled back to."""
    query = sql.SQL(
        "select {columns} from public.ai_model_deployments d where (%(model)s::uuid is null or model_id = %(model)s) "
        "and (ended_at is null or id in (select previous_deployment_id from public.ai_model_deployments "
        "where ended_at is null and rollout_phase = 'aborting')) order by id"
    ).format(columns=COLUMNS)
    async with connection.cursor(row_factory=class_row(Deployment)) as cursor:
        return await (await cursor.execute(query, {"model": model_id})).fetchall()


async def advance(connection: Connection, one: Deployment, changes: Mapping[str, Any], now: datetime) -> Deployment:
    """Change a row, if it is still as `one` says.

    Returns:
        The row as it is now.

    Raises:
        StaleError: someone else changed it since.
        ValueError: the change of state is in no table.
    """
    status, phase = changes.get("status", one.status), changes.get("rollout_phase", one.rollout_phase)
    if not may_follow(one.status, one.rollout_phase, status, phase):
        raise ValueError(f"{one.status}/{one.rollout_phase} cannot become {status}/{phase}")
    statement = sql.SQL(
        "update public.ai_model_deployments set {}, updated_at = %s, version = version + 1 "
        "where id = %s and version = %s returning {}"
    ).format(sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in changes), COLUMNS)
    values = [*(_adapt(value) for value in changes.values()), now, one.id, one.version]
    async with connection.cursor(row_factory=class_row(Deployment)) as cursor:
        row = await (await cursor.execute(statement, values)).fetchone()
    if row is None:
        raise StaleError(str(one.id))
    return row


async def replicas(connection: Connection, deployment_ids: Sequence[UUID]) -> dict[UUID, list[Replica]]:
    """The replicas of deployments, by deployment and in their order."""
    found: dict[UUID, list[Replica]] = {identifier: [] for identifier in deployment_ids}
    async with connection.cursor(row_factory=class_row(Replica)) as cursor:
        async for row in await cursor.execute(REPLICAS_OF, (list(deployment_ids),)):
            found[row.deployment_id].append(row)
    return found


async def run_replica(
    connection: Connection, one: Deployment, ordinal: int, kind: str, spec: Mapping[str, Any], now: datetime
) -> None:
    """Ask for a replica: made where absent, started anew where there is one of that ordinal."""
    await connection.execute(
        """
        insert into trimtab.replicas (id, workspace_id, deployment_id, ordinal, kind, spec, changed_at)
        values (%s, %s, %s, %s, %s, %s, %s)
        on conflict (deployment_id, ordinal) do update set desired = 'running', status = 'pending', reason = '',
            restarts = 0, released_at = null, released_revision = null, generation = replicas.generation + 1,
            changed_at = excluded.changed_at
        """,
        (new_id(), one.workspace_id, one.id, ordinal, kind, Jsonb(dict(spec)), now),
    )


async def stop_replicas(connection: Connection, deployment_id: UUID, ids: Sequence[UUID] | None, now: datetime) -> None:
    """Ask for replicas to be stopped; `ids` None for all of the deployment."""
    await connection.execute(
        "update trimtab.replicas set desired = 'stopped', changed_at = %s where deployment_id = %s "
        "and desired = 'running' and (%s::uuid[] is null or id = any(%s))",
        (now, deployment_id, ids and list(ids), ids and list(ids)),
    )


async def release_replicas(connection: Connection, ids: Sequence[UUID], now: datetime) -> None:
    """Take replicas out of the targets."""
    await connection.execute("update trimtab.replicas set released_at = %s where id = any(%s)", (now, list(ids)))


async def note_release(connection: Connection, ids: Sequence[UUID], revision: int) -> None:
    """Note by which routing revision replicas left the targets."""
    await connection.execute(
        "update trimtab.replicas set released_revision = %s where id = any(%s)", (revision, list(ids))
    )


async def sealed_credentials(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The sealed texts of credentials, by id; none of those the caller may not see."""
    cursor = await connection.execute(
        "select id, sealed from trimtab.provider_credentials where id = any(%s)", (list(ids),)
    )
    return {row[0]: bytes(row[1]).decode("ascii") async for row in cursor}


async def in_production(connection: Connection, lifecycle_id: UUID) -> bool:
    """Whether a deployment of the version is in production and has not ended."""
    cursor = await connection.execute(
        "select 1 from public.ai_model_deployments where lifecycle_id = %s and environment = 'production' "
        "and status in ('healthy', 'unhealthy')",
        (lifecycle_id,),
    )
    return await cursor.fetchone() is not None


async def gateways(connection: Connection) -> tuple[Gateway, ...]:
    """Every gateway worker known."""
    rows = await (
        await connection.execute("select id, revision, lease_until, activity from trimtab.gateway_instances")
    ).fetchall()
    return tuple(Gateway(row[0], row[1], row[2], _uses(row[3])) for row in rows)


async def gateway_hosts(connection: Connection) -> list[str]:
    """The machines that have a gateway which is alive."""
    cursor = await connection.execute(
        "select distinct hostname from trimtab.gateway_instances where lease_until > now() order by hostname"
    )
    return [row[0] async for row in cursor]


async def runners(connection: Connection) -> list[Runner]:
    """The machines that can run replicas: those whose runner is alive."""
    query = (
        "select id, hostname, cpu, memory_mb, gpu from trimtab.runners "
        "where heartbeat_at > now() - %s::interval order by id"
    )
    async with connection.cursor(row_factory=class_row(Runner)) as cursor:
        return await (await cursor.execute(query, (RUNNER_LEASE,))).fetchall()


async def held_memory_mb(connection: Connection) -> int:
    """The memory that running process replicas of all workspaces were promised; for `system`."""
    row = await (
        await connection.execute(
            "select coalesce(sum((spec #>> '{resources,memory_mb}')::numeric), 0)::int from trimtab.replicas "
            "where kind = 'process' and desired = 'running'"
        )
    ).fetchone()
    assert row is not None
    return int(row[0])


async def published(connection: Connection, model_id: UUID | None = None) -> dict[UUID, dict[tuple[str, str], Any]]:
    """The bodies of the route and deployment entries that gateways have now, by model, then kind and key."""
    found: dict[UUID, dict[tuple[str, str], Any]] = {}
    query = (
        "select body ->> 'model_id', kind, key, body from trimtab.routing_entries "
        "where kind in ('route', 'deployment') and body is not null "
        "and (%(model)s::text is null or body ->> 'model_id' = %(model)s)"
    )
    parameters = {"model": None if model_id is None else str(model_id)}
    async for model, kind, key, body in await connection.execute(query, parameters):
        found.setdefault(UUID(model), {})[kind, key] = body
    return found


async def events(
    connection: Connection, workspace_id: UUID, deployment_id: UUID, after: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """What happened to a deployment, newest first."""
    query = (
        "select id, at, name, data from trimtab.events where workspace_id = %s and subject_id = %s "
        "and (%s::uuid is null or id < %s) order by id desc limit %s"
    )
    async with connection.cursor(row_factory=dict_row) as cursor:
        return await (await cursor.execute(query, (workspace_id, deployment_id, after, after, limit))).fetchall()


def _uses(activity: Mapping[str, Mapping[str, Any]]) -> dict[UUID, Use]:
    return {
        UUID(key): Use(
            int(use.get("in_flight", 0)),
            datetime.fromisoformat(use["last_request_at"]) if use.get("last_request_at") else None,
        )
        for key, use in activity.items()
    }


def _adapt(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict) else value
