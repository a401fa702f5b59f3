"""Who acts: the holder of an API key, or the program itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from trimtab.db.database import Role, Scope

MemberRole = Literal["viewer", "operator", "admin"]
ORDER: tuple[Role, ...] = ("viewer", "operator", "admin", "system")


@dataclass(frozen=True, slots=True)
class Principal:
    """The acting member of a workspace; what services and the audit log know a caller by.

    Parameters:
        workspace_id: the workspace acted in.
        member_id: the member; None for the program itself.
        name: the member's name; `trimtab` for the program itself.
        role: the lesser of the member's and the key's role.
        scopes: what the key may be used for: `control`, `inference`.
        request_id: of the HTTP request, for the audit log.
    """

    workspace_id: UUID
    member_id: UUID | None
    name: str
    role: Role
    scopes: tuple[str, ...] = ("control",)
    key_id: UUID | None = None
    request_id: str | None = None

    @property
    def scope(self) -> Scope:
        """The scope of this principal's transactions."""
        return Scope(self.role, self.workspace_id, self.member_id)

    def is_at_least(self, role: Role) -> bool:
        """Whether the principal holds `role` or a higher one."""
        return ORDER.index(self.role) >= ORDER.index(role)


def program(workspace_id: UUID) -> Principal:
    """The program itself, acting in one workspace (reconcilers)."""
    return Principal(workspace_id, None, "trimtab", "system")
