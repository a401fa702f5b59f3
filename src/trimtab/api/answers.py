"""The answers kept for POSTs with an Idempotency-Key: their SQL, and nothing of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from trimtab.clock import Clock
from trimtab.db.database import SYSTEM, Connection, Database

KEPT = timedelta(hours=24)
"""How long an answer can be had again."""

SET_WAIT = "select current_setting('lock_timeout'), set_config('lock_timeout', %s, true)"
CLAIM = """
insert into trimtab.idempotency_keys (workspace_id, member_id, key, request_hash)
values (%(workspace_id)s, %(member_id)s, %(key)s, %(request_hash)s)
on conflict do nothing returning true
"""
FIND = """
select request_hash, status, answer from trimtab.idempotency_keys
where workspace_id = %(workspace_id)s and member_id = %(member_id)s and key = %(key)s
"""
KEEP = """
update trimtab.idempotency_keys set status = %(status)s, answer = %(answer)s
where workspace_id = %(workspace_id)s and member_id = %(member_id)s and key = %(key)s
"""
FORGET = "delete from trimtab.idempotency_keys where created_at < %s"


async def claim(connection: Connection, owner: Mapping[str, Any], request_hash: str, wait: str) -> bool:
    """Take a key for this transaction; False when a finished one has it.

    Parameters:
        owner: `workspace_id`, `member_id` and `key`.
        wait: how long to wait for an unfinished transaction that has it, such as `10s`.

    Raises:
        psycopg.errors.LockNotAvailable: that one is still unfinished.
    """
    before = await (await connection.execute(SET_WAIT, (wait,))).fetchone()
    assert before is not None
    claimed = await connection.execute(CLAIM, {**owner, "request_hash": request_hash})
    free = await claimed.fetchone() is not None
    await connection.execute(SET_WAIT, (before[0],))
    return free


async def find(connection: Connection, owner: Mapping[str, Any]) -> tuple[str, int, bytes] | None:
    """The request's hash, the status and the sealed answer kept for a key."""
    row = await (await connection.execute(FIND, owner)).fetchone()
    return None if row is None else (row[0], row[1], bytes(row[2]))


async def keep(connection: Connection, owner: Mapping[str, Any], status: int, answer: bytes) -> None:
    """Keep the sealed answer for a key that this transaction claimed."""
    await connection.execute(KEEP, {**owner, "status": status, "answer": answer})


async def forget_old(database: Database, clock: Clock) -> int:
    """Delete the answers that were `KEPT` long enough. Returns how many."""
    async with database.transaction(SYSTEM) as connection:
        return (await connection.execute(FORGET, (clock() - KEPT,))).rowcount
