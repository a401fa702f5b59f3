"""The SQL of the runner: its own row, claims, and what it reports of replicas."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from trimtab.db.database import Connection
from trimtab.deployments.keeper import Report
from trimtab.deployments.records import Replica
from trimtab.deployments.runtimes import Usage
from trimtab.deployments.runtimes.machine import Machine
from trimtab.deployments.store import REPLICA_COLUMNS, RUNNER_LEASE

REGISTER = """
insert into trimtab.runners (id, hostname, pid, cpu, memory_mb, gpu) values (%s, %s, %s, %s, %s, %s)
on conflict (id) do update set hostname = excluded.hostname, pid = excluded.pid, cpu = excluded.cpu,
    memory_mb = excluded.memory_mb, gpu = excluded.gpu, started_at = now(), heartbeat_at = now()
"""
# Its processes ended with the runner that this one follows.
FORGET = """
update trimtab.replicas set status = 'pending', url = null, pid = null, reason = 'its runner was started anew'
where runner_id = %s and kind = 'process' and status not in ('stopped', 'pending')
"""
CLAIMABLE = sql.SQL(
    "select {} from trimtab.replicas r where (desired = 'running' or status <> 'stopped') and (runner_id is null "
    "or not exists (select from trimtab.runners u where u.id = r.runner_id "
    "and u.heartbeat_at > now() - %s::interval)) order by id for update skip locked"
).format(REPLICA_COLUMNS)
MINE = sql.SQL(
    "select {} from trimtab.replicas where runner_id = %s and (desired = 'running' or status <> 'stopped') order by id"
).format(REPLICA_COLUMNS)


async def register(connection: Connection, runner_id: UUID, machine: Machine) -> None:
    """Write the runner's row, and forget what an earlier process of this runner had."""
    values = (runner_id, socket.gethostname(), os.getpid(), len(machine.cpus), machine.memory_mb, len(machine.gpus))
    await connection.execute(REGISTER, values)
    await connection.execute(FORGET, (runner_id,))


async def beat(connection: Connection, runner_id: UUID) -> bool:
    """Say that the runner lives. Returns False where its row is gone."""
    cursor = await connection.execute("update trimtab.runners set heartbeat_at = now() where id = %s", (runner_id,))
    return cursor.rowcount == 1


async def claimable(connection: Connection) -> list[Replica]:
    """Replicas that no living runner has, locked."""
    async with connection.cursor(row_factory=class_row(Replica)) as cursor:
        return await (await cursor.execute(CLAIMABLE, (RUNNER_LEASE,))).fetchall()


async def claim(connection: Connection, runner_id: UUID, ids: Sequence[UUID]) -> None:
    """Take replicas; what was running elsewhere is not running any more."""
    await connection.execute(
        "update trimtab.replicas set runner_id = %s, url = case when kind = 'external' then url end, pid = null, "
        "status = case when kind = 'external' or status = 'stopped' then status else 'pending' end where id = any(%s)",
        (runner_id, list(ids)),
    )


async def mine(connection: Connection, runner_id: UUID) -> list[Replica]:
    """The replicas of the runner that run or shall run."""
    async with connection.cursor(row_factory=class_row(Replica)) as cursor:
        return await (await cursor.execute(MINE, (runner_id,))).fetchall()


async def report(connection: Connection, runner_id: UUID, replica: Replica, said: Report, now: datetime) -> None:
    """Write what is said of a replica, unless it was asked to begin anew since or belongs to another runner."""
    await connection.execute(
        "update trimtab.replicas set status = %s, reason = %s, url = %s, pid = %s, restarts = %s, changed_at = %s "
        "where id = %s and runner_id = %s and generation = %s",
        (
            said.status,
            said.reason,
            said.url,
            said.pid,
            said.restarts,
            now,
            replica.id,
            runner_id,
            replica.generation,
        ),
    )


async def stopped(connection: Connection, replica_id: UUID, now: datetime) -> None:
    """Note that nothing of a replica is left; the reason of its last state stays readable."""
    await connection.execute(
        "update trimtab.replicas set status = 'stopped', url = null, pid = null, cpu_percent = null, "
        "memory_bytes = null, changed_at = %s where id = %s and desired = 'stopped'",
        (now, replica_id),
    )


async def sample(connection: Connection, replica_id: UUID, usage: Usage) -> None:
    """Write what a replica uses."""
    await connection.execute(
        "update trimtab.replicas set cpu_percent = %s, memory_bytes = %s where id = %s",
        (usage.cpu_percent, usage.memory_bytes, replica_id),
    )


async def no_room(connection: Connection, ids: Sequence[UUID], reason: str) -> None:
    """Say why replicas wait for a runner."""
    await connection.execute(
        "update trimtab.replicas set reason = %s where id = any(%s) and reason <> %s", (reason, list(ids), reason)
    )


async def still_logged(connection: Connection, ids: Collection[UUID], since: datetime) -> set[UUID]:
    """Those of replicas that run or shall run, or have stopped after `since`."""
    cursor = await connection.execute(
        "select id from trimtab.replicas where id = any(%s) "
        "and (desired = 'running' or status <> 'stopped' or changed_at > %s)",
        (list(ids), since),
    )
    return {row[0] async for row in cursor}


async def leave(connection: Connection, runner_id: UUID) -> None:
    """Take back the runner's row, and let others have its replicas."""
    await connection.execute(
        "update trimtab.replicas set runner_id = null, pid = null, "
        "url = case when kind = 'external' then url end, "
        "reason = case when kind = 'process' and desired = 'running' then 'its runner was stopped' else reason end, "
        "status = case when status = 'stopped' or desired = 'stopped' then 'stopped' "
        "when kind = 'external' then status else 'pending' end where runner_id = %s",
        (runner_id,),
    )
    await connection.execute("delete from trimtab.runners where id = %s", (runner_id,))
