# Made by `python -m tools.unasync` from src/trimtab/client/_async/access.py; change that one.
"""Keys, workspaces, who one is, what was done, and the credentials of providers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from trimtab.access.schemas import ApiKey, AuditEntry, NewApiKey, Provider, Workspace
from trimtab.access.schemas import Session as Holder
from trimtab.client._sync.paging import Pager
from trimtab.client._sync.transport import Transport
from trimtab.client.calls import Call, Id, path


class ApiKeys:
    """`client.api_keys`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Pager[ApiKey]:
        """API keys, newest first, also revoked ones."""
        return Pager(self._transport, "/api-keys", ApiKey, {"limit": limit, "cursor": cursor})

    def get(self, key_id: Id) -> ApiKey:
        """One API key, without the key itself. Raises NotFoundError."""
        return self._transport.fetch(Call("GET", path("api-keys", key_id)), ApiKey)

    def create(
        self,
        name: str,
        *,
        role: str | None = None,
        scopes: Sequence[str] | None = None,
        member: str | None = None,
        expires_at: datetime | None = None,
    ) -> NewApiKey:
        """Make an API key; `key` of the result is shown this once.

        Parameters:
            role: `viewer` (the default), `operator` or `admin`; not above the caller's own.
            scopes: `control` (the API), `inference` (calling models); both where nothing is said.
            member: whom it is for; a member of its own, named like the key, where nothing is said.
        """
        body = {"name": name, "role": role, "scopes": scopes, "member": member, "expires_at": expires_at}
        return self._transport.fetch(Call("POST", "/api-keys", body=body), NewApiKey)

    def revoke(self, key_id: Id) -> ApiKey:
        """Make a key useless, for good. Raises ConflictError for the last admin key."""
        return self._transport.fetch(Call("POST", path("api-keys", key_id, "revoke")), ApiKey)


class Providers:
    """`client.providers`: credentials that are kept for model endpoints; of the secrets only hints are shown."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Pager[Provider]:
        """Credentials, newest first."""
        return Pager(self._transport, "/providers", Provider, {"limit": limit, "cursor": cursor})

    def create(self, name: str, provider: str, credential: str) -> Provider:
        """Keep a credential, sealed; versions refer to it by its id."""
        body = {"name": name, "provider": provider, "credential": credential}
        return self._transport.fetch(Call("POST", "/providers", body=body), Provider)

    def delete(self, provider_id: Id) -> None:
        """Delete a credential. Raises ConflictError while a version uses it."""
        self._transport.perform(Call("DELETE", path("providers", provider_id)))


class AuditLog:
    """`client.audit_log`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        object_type: str | None = None,
        object_id: Id | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Pager[AuditEntry]:
        """What was done, newest first, from `start` on and before `end`.

        Parameters:
            actor: id or name of who did it.
            action: such as `lifecycle.approve`.
        """
        query = {
            "actor": actor,
            "action": action,
            "object_type": object_type,
            "object_id": object_id,
            "start": start,
            "end": end,
            "limit": limit,
            "cursor": cursor,
        }
        return Pager(self._transport, "/audit-log", AuditEntry, query)


class Workspaces:
    """`client.workspaces`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Pager[Workspace]:
        """The workspaces that the key can see."""
        return Pager(self._transport, "/workspaces", Workspace, {"limit": limit, "cursor": cursor})

    def get(self, workspace_id: Id) -> Workspace:
        """One workspace. Raises NotFoundError."""
        return self._transport.fetch(Call("GET", path("workspaces", workspace_id)), Workspace)

    def update(
        self,
        workspace_id: Id,
        *,
        name: str | None = None,
        four_eyes: bool | None = None,
        stage_order: bool | None = None,
    ) -> Workspace:
        """Change a workspace.

        Parameters:
            four_eyes: nobody approves a version that they registered.
            stage_order: no stage of a version's life is skipped.
        """
        settings = {"four_eyes": four_eyes, "stage_order": stage_order}
        given = {name: value for name, value in settings.items() if value is not None}
        body = {"name": name, "settings": given or None}
        return self._transport.fetch(Call("PATCH", path("workspaces", workspace_id), body=body), Workspace)


class Session:
    """`client.session`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self) -> Holder:
        """Who the key belongs to, with which role, in which workspace."""
        return self._transport.fetch(Call("GET", "/session"), Holder)
