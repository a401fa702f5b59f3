"""Access over HTTP: keys, the workspace, who one is, what was done, credentials of providers."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from trimtab.access import audit, credentials, keys, schemas, workspaces
from trimtab.access.audit import AuditRow
from trimtab.access.credentials import CredentialRow
from trimtab.access.keys import KeyRow
from trimtab.access.schemas import ApiKey, AuditEntry, NewApiKey, Provider, Session, Workspace
from trimtab.access.workspaces import WorkspaceRow
from trimtab.api.caller import Admin, Operator, Viewer
from trimtab.api.paging import Page, Paging
from trimtab.errors import Code, TrimtabError

router = APIRouter()
KEYS: list[str | Enum] = ["api-keys"]
WORKSPACES: list[str | Enum] = ["workspaces"]
SESSION: list[str | Enum] = ["session"]
AUDIT: list[str | Enum] = ["audit-log"]
PROVIDERS: list[str | Enum] = ["providers"]


def shown_key(row: KeyRow) -> ApiKey:
    """A key as it is answered."""
    return ApiKey.model_validate({**asdict(row), "hint": row.key_hint})


def shown_workspace(row: WorkspaceRow) -> Workspace:
    """A workspace as it is answered."""
    return Workspace.model_validate(asdict(row))


def shown_entry(row: AuditRow) -> AuditEntry:
    """A line of the audit log as it is answered."""
    return AuditEntry(**asdict(row))


def shown_provider(row: CredentialRow) -> Provider:
    """A credential as it is answered."""
    return Provider.model_validate(asdict(row))


@router.post("/api-keys", status_code=201, tags=KEYS)
async def create_key(caller: Admin, given: schemas.ApiKeyCreate) -> NewApiKey:
    """Make an API key. The answer holds the key; it is shown this once."""
    actor, now = caller.principal, caller.services.clock()
    if not actor.is_at_least(given.role):
        raise TrimtabError(Code.FORBIDDEN, f"Your own role is {actor.role}; a key cannot have a higher one.", "role")
    if given.expires_at is not None and given.expires_at <= now:
        raise TrimtabError(Code.INVALID_REQUEST, "Give a moment in the future.", "expires_at")
    key = keys.make_key()
    async with caller.transaction() as connection:
        owner = await workspaces.member_for_key(
            connection, actor, given.member or given.name, given.role, now, new=given.member is None
        )
        key_id = await keys.add(
            connection,
            actor,
            owner,
            key,
            name=given.name,
            role=given.role,
            now=now,
            scopes=sorted(set(given.scopes)),
            expires_at=given.expires_at,
        )
        row = await keys.find(connection, actor.workspace_id, key_id)
    return NewApiKey(**shown_key(row).model_dump(), key=key)


@router.get("/api-keys", tags=KEYS)
async def list_keys(caller: Admin, paging: Paging) -> Page[ApiKey]:
    """API keys, newest first, also revoked ones."""
    async with caller.transaction() as connection:
        rows = await keys.newest(connection, caller.principal.workspace_id, paging.before, paging.fetch)
    return paging.page(rows, shown_key, lambda row: row.id)


@router.get("/api-keys/{key_id}", tags=KEYS)
async def get_key(caller: Admin, key_id: UUID) -> ApiKey:
    """One API key."""
    async with caller.transaction() as connection:
        return shown_key(await keys.find(connection, caller.principal.workspace_id, key_id))


@router.post("/api-keys/{key_id}/revoke", tags=KEYS)
async def revoke_key(caller: Admin, key_id: UUID) -> ApiKey:
    """Revoke an API key, for good."""
    async with caller.transaction() as connection:
        return shown_key(await keys.revoke(connection, caller.principal, key_id, caller.services.clock()))


@router.delete("/api-keys/{key_id}", status_code=204, tags=KEYS)
async def delete_key(caller: Admin, key_id: UUID) -> None:
    """The same as revoking it; its line stays, for the audit log refers to it."""
    async with caller.transaction() as connection:
        await keys.revoke(connection, caller.principal, key_id, caller.services.clock())


@router.get("/workspaces", tags=WORKSPACES)
async def list_workspaces(caller: Viewer, paging: Paging) -> Page[Workspace]:
    """The workspaces that the key can see: its own."""
    async with caller.transaction() as connection:
        rows = await workspaces.visible(connection, paging.before, paging.fetch)
    return paging.page(rows, shown_workspace, lambda row: row.id)


@router.get("/workspaces/{workspace_id}", tags=WORKSPACES)
async def get_workspace(caller: Viewer, workspace_id: UUID) -> Workspace:
    """One workspace."""
    async with caller.transaction() as connection:
        return shown_workspace(await workspaces.find(connection, workspace_id))


@router.patch("/workspaces/{workspace_id}", tags=WORKSPACES)
async def update_workspace(caller: Admin, workspace_id: UUID, given: schemas.WorkspaceUpdate) -> Workspace:
    """Change a workspace's name or settings."""
    settings = {} if given.settings is None else given.settings.model_dump(exclude_none=True)
    async with caller.transaction() as connection:
        row = await workspaces.update(connection, caller.principal, workspace_id, given.name, settings)
    return shown_workspace(row)


@router.get("/session", tags=SESSION)
async def get_session(caller: Viewer) -> Session:
    """Who the caller is."""
    actor = caller.principal
    return Session(
        member_id=actor.member_id,
        member_name=actor.name,
        role=cast("schemas.MemberRole", actor.role),
        workspace_id=actor.workspace_id,
        workspace_name=caller.workspace_name,
        scopes=cast("list[schemas.KeyScope]", list(actor.scopes)),
        key_id=actor.key_id,
    )


@router.get("/audit-log", tags=AUDIT)
async def list_audit_log(
    caller: Operator,
    paging: Paging,
    actor: Annotated[str | None, Query(description="Id or name of who did it.")] = None,
    action: Annotated[str | None, Query(description="For example `lifecycle.approve`.")] = None,
    object_type: str | None = None,
    object_id: str | None = None,
    start: Annotated[AwareDatetime | None, Query(description="From this moment on.")] = None,
    end: Annotated[AwareDatetime | None, Query(description="Before this moment.")] = None,
) -> Page[AuditEntry]:
    """What was done, newest first."""
    wanted = audit.Wanted(actor, action, object_type, object_id, start, end)
    async with caller.transaction() as connection:
        rows = await audit.newest(connection, caller.principal.workspace_id, wanted, paging.before, paging.fetch)
    return paging.page(rows, shown_entry, lambda row: row.id)


@router.post("/providers", status_code=201, tags=PROVIDERS)
async def create_provider(caller: Operator, given: schemas.ProviderCreate) -> Provider:
    """Keep a provider's credential, sealed; versions refer to it by id."""
    async with caller.transaction() as connection:
        row = await credentials.keep(
            connection,
            caller.principal,
            caller.services.sealer,
            caller.services.clock(),
            name=given.name,
            provider=given.provider,
            secret=given.credential,
        )
    return shown_provider(row)


@router.get("/providers", tags=PROVIDERS)
async def list_providers(caller: Operator, paging: Paging) -> Page[Provider]:
    """Credentials that are kept, newest first."""
    async with caller.transaction() as connection:
        rows = await credentials.newest(connection, caller.principal.workspace_id, paging.before, paging.fetch)
    return paging.page(rows, shown_provider, lambda row: row.id)


@router.delete("/providers/{provider_id}", status_code=204, tags=PROVIDERS)
async def delete_provider(caller: Admin, provider_id: UUID) -> None:
    """Delete a credential that no version uses."""
    async with caller.transaction() as connection:
        await credentials.delete(connection, caller.principal, provider_id)
