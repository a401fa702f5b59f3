"""What the control plane tells gateways: the entries of the routing snapshot.

These structs are the whole contract between the two planes. They are stored as JSON in `trimtab.routing_entries`,
one row per entry, and held decoded in the memory of every gateway.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Environment = Literal["development", "staging", "production"]
EntryKind = Literal["api_key", "route", "deployment"]
WHOLE = 10_000
"""All of the traffic, in the basis points that weights are given in."""


class ApiKeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A key that gateways accept. The entry's key is the SHA-256 of the API key, in hex.

    Parameters:
        expires_at: Unix seconds, None for never.
        scopes: `inference` lets it call models, `control` lets it use the control API.
    """

    id: str
    workspace_id: str
    member_id: str
    member_name: str
    role: Literal["viewer", "operator", "admin"]
    scopes: tuple[str, ...]
    expires_at: float | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Rates in pico-USD per token, valid from `since` (Unix seconds) until the next one."""

    since: float
    input_pico: int
    output_pico: int
    cache_read_pico: int
    cache_write_pico: int


class DeploymentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment that can be called. The entry's key is the deployment's id.

    Parameters:
        targets: base URLs of the replicas that are ready; dialect paths are appended (`{target}/chat/completions`).
        endpoint_path: path that takes the place of the dialect's own, where the endpoint has an odd one.
        credential: the provider's key, sealed (`trimtab.sealing`), base64 text; None where none is needed.
        parameters: request fields set where the caller leaves them out; overrides: set in any case.
        approval: what the version's approval says now; only `approved`, or `conditional` before
            `approval_expires_at` (Unix seconds), is served in production.
        prices: oldest first.
    """

    id: str
    workspace_id: str
    model_id: str
    model_name: str
    lifecycle_id: str
    version_tag: str
    environment: Environment
    provider: str
    upstream_model: str | None = None
    targets: tuple[str, ...] = ()
    endpoint_path: str | None = None
    credential: str | None = None
    parameters: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    approval: Literal["pending", "approved", "rejected", "conditional"] = "pending"
    approval_expires_at: float | None = None
    prices: tuple[Price, ...] = ()
    created_at: float = 0.0


class Arm(msgspec.Struct, frozen=True, array_like=True):
    """One side of a route: a deployment and its share in basis points."""

    deployment_id: str
    weight: int


class RouteEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model name leads. The entry's key is `route_key(...)`.

    Parameters:
        name: the name as callers write it: `bot`, `bot@staging`, `bot@v1.2.0`.
        arms: the deployments that share the traffic; weights add up to `WHOLE`, or there are none.
        salt: of the bucket hash, new for each rollout or test.
    """

    workspace_id: str
    model_id: str
    name: str
    environment: Environment
    arms: tuple[Arm, ...]
    salt: str = ""
    listed: bool = True
    created_at: float = 0.0


Entry = ApiKeyEntry | DeploymentEntry | RouteEntry
ENTRY_TYPES: dict[EntryKind, type[Entry]] = {
    "api_key": ApiKeyEntry,
    "route": RouteEntry,
    "deployment": DeploymentEntry,
}


def route_key(workspace_id: str, name: str) -> str:
    """The key of a route entry: model names are told apart per workspace and regardless of case."""
    return f"{workspace_id}/{name.lower()}"
