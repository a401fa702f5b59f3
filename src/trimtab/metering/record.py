"""One request as the gateway saw it: the only thing that usage, cost and evidence are made from."""

from __future__ import annotations

import msgspec


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One call to an upstream within a request; the last one is the one that was answered from.

    Parameters:
        deployment_id: which deployment was tried.
        target: base URL of the replica.
        status: HTTP status, 0 when none came.
        error_code: a code of `trimtab.errors` in lower case, or None.
        duration_us: microseconds from the call to its end.
    """

    deployment_id: str
    target: str
    status: int
    error_code: str | None
    duration_us: int


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Tokens in disjoint buckets: the three input buckets add up to the prompt; `reasoning` is part of `output`.

    `source` is `upstream` (reported by the model server), `estimated` (counted here because the upstream reported
    none), or `none` (nothing was generated).
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    source: str = "none"


class RequestRecord(msgspec.Struct, frozen=True, array_like=True):
    """A request that has ended, however it ended. Appended to the spool before the last byte of its answer.

    Times: `started_us` in Unix microseconds, durations in microseconds from there; `ttft_us` (time to the first
    content) and `last_token_us` only for streams. Ids are UUID texts; those of the route are None when none was found.
    Fields are only ever added at the end, with a default: a newer program must read an older spool.
    """

    id: str
    workspace_id: str
    started_us: int
    api_key_id: str
    member_id: str
    unit: str | None
    requested_model: str
    environment: str | None
    model_id: str | None
    lifecycle_id: str | None
    deployment_id: str | None
    version_tag: str | None
    variant: str | None
    routing_revision: int
    provider: str | None
    upstream_model: str | None
    dialect: str
    operation: str
    streamed: bool
    status: int
    error_code: str | None
    finish_reason: str | None
    client_gone: bool
    latency_us: int
    ttft_us: int | None
    last_token_us: int | None
    usage: Usage
    cost_nano: int
    attempts: tuple[Attempt, ...]


encode_record = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(RequestRecord).decode
