"""What access takes and answers. Shared with the Python client, so it imports nothing of server or database."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from trimtab.fields import Moment, Name, Strict

MemberRole = Literal["viewer", "operator", "admin"]
KeyScope = Literal["control", "inference"]


class ApiKeyCreate(Strict):
    """A new API key.

    `member` names whom it is for; a service member of that name is made where there is none. Left out, the key gets
    a service member of its own, named like the key.
    """

    name: Name
    member: Name | None = None
    role: MemberRole = "viewer"
    scopes: Annotated[tuple[KeyScope, ...], Field(min_length=1, max_length=2)] = ("control", "inference")
    expires_at: Moment | None = None


class ApiKey(BaseModel):
    """An API key, without the key."""

    id: UUID
    name: str
    member_id: UUID
    member_name: str
    role: MemberRole
    scopes: list[KeyScope]
    hint: str
    created_at: datetime
    created_by: UUID | None
    expires_at: datetime | None
    revoked_at: datetime | None


class NewApiKey(ApiKey):
    """An API key just made; `key` is shown here and never again."""

    key: str


class WorkspaceSettings(BaseModel):
    """What a workspace asks for.

    `four_eyes`: nobody approves a version they registered. `stage_order`: no stage of a version's life is skipped.
    """

    four_eyes: bool = False
    stage_order: bool = False


class WorkspaceSettingsUpdate(Strict):
    """What changes; fields left out stay."""

    four_eyes: bool | None = None
    stage_order: bool | None = None


class WorkspaceUpdate(Strict):
    """What changes; fields left out stay."""

    name: Name | None = None
    settings: WorkspaceSettingsUpdate | None = None


class Workspace(BaseModel):
    """A workspace."""

    id: UUID
    name: str
    settings: WorkspaceSettings
    created_at: datetime


class Session(BaseModel):
    """Who the caller is."""

    member_id: UUID | None
    member_name: str
    role: MemberRole
    workspace_id: UUID
    workspace_name: str
    scopes: list[KeyScope]
    key_id: UUID | None


class AuditEntry(BaseModel):
    """One line of the audit log."""

    id: UUID
    at: datetime
    actor_id: UUID | None
    actor_name: str
    action: str
    object_type: str
    object_id: str
    details: dict[str, Any]
    request_id: str | None


class ProviderCreate(Strict):
    """A provider's credential to keep."""

    name: Name
    provider: Annotated[str, Field(min_length=1, max_length=256)]
    credential: Annotated[str, Field(min_length=1, max_length=10_000)]


class Provider(BaseModel):
    """A provider's credential that is kept; of the secret itself only a hint is shown."""

    id: UUID
    name: str
    provider: str
    hint: str
    created_by: UUID | None
    created_at: datetime
