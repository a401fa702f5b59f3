"""Keys, workspaces, who one is, what was done, and the credentials of providers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from trimtab.access.schemas import ApiKey, AuditEntry, NewApiKey, Provider, Workspace
from trimtab.access.schemas import Session as Holder
from trimtab.client._async.paging import AsyncPager
from trimtab.client._async.transport import AsyncTransport
from trimtab.client.calls import Call, Id, path


class AsyncApiKeys:
    """`client.api_keys`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPager[ApiKey]:
        """API keys, newest first, also revoked ones."""
        return AsyncPager(self._transport, "/api-keys", ApiKey, {"limit": limit, "cursor": cursor})

    async def get(self, key_id: Id) -> ApiKey:
        """One API key, without the key itself. Raises NotFoundError."""
        return await self._transport.fetch(Call("GET", path("api-keys", key_id)), ApiKey)

    async def create(
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
        return await self._transport.fetch(Call("POST", "/api-keys", body=body), NewApiKey)

    async def revoke(self, key_id: Id) -> ApiKey:
        """Make a key useless, for good. Raises ConflictError for the last admin key."""
        return await self._transport.fetch(Call("POST", path("api-keys", key_id, "revoke")), ApiKey)


class AsyncProviders:
    """`client.providers`: credentials that are kept for model endpoints; of the secrets only hints are shown."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPager[Provider]:
        """Credentials, newest first."""
        return AsyncPager(self._transport, "/providers", Provider, {"limit": limit, "cursor": cursor})

    async def create(self, name: str, provider: str, credential: str) -> Provider:
        """Keep a credential, sealed; versions refer to it by its id."""
        body = {"name": name, "provider": provider, "credential": credential}
        return await self._transport.fetch(Call("POST", "/providers", body=body), Provider)

    async def delete(self, provider_id: Id) -> None:
        """Delete a credential. Raises ConflictError while a version uses it."""
        await self._transport.perform(Call("DELETE", path("providers", provider_id)))


class AsyncAuditLog:
    """`client.audit_log`."""

    def __init__(self, transport: AsyncTransport) -> None:
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
    ) -> AsyncPager[AuditEntry]:
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
        return AsyncPager(self._transport, "/audit-log", AuditEntry, query)


class AsyncWorkspaces:
    """`client.workspaces`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> AsyncPager[Workspace]:
        """The workspaces that the key can see."""
        return AsyncPager(self._transport, "/workspaces", Workspace, {"limit": limit, "cursor": cursor})

    async def get(self, workspace_id: Id) -> Workspace:
        """One workspace. Raises NotFoundError."""
        return await self._transport.fetch(Call("GET", path("workspaces", workspace_id)), Workspace)

    async def update(
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
        return await self._transport.fetch(Call("PATCH", path("workspaces", workspace_id), body=body), Workspace)


class AsyncSession:
    """`client.session`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def get(self) -> Holder:
        """Who the key belongs to, with which role, in which workspace."""
        return await self._transport.fetch(Call("GET", "/session"), Holder)
