"""Versions of models: registered, changed while that is allowed, approved or not, moved through the stages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

import psycopg

from trimtab.access import credentials
from trimtab.errors import Code, TrimtabError
from trimtab.ids import new_id
from trimtab.registry import store
from trimtab.registry.schemas import (
    ApprovalConditions,
    CredentialReference,
    DeploymentConfig,
    LifecycleCreate,
    LifecycleUpdate,
)
from trimtab.registry.states import EDITABLE, Decision, Stage, may_decide, next_stages
from trimtab.registry.store import LifecycleRow, ModelRow
from trimtab.registry.work import Work
from trimtab.sealing import Sealer

COMMAND_FIELDS: Final = ("command", "args", "env")
"""Fields of `deployment_config.runtime` by which a version decides what runs on the machines of the runners."""


async def get_lifecycle(work: Work, lifecycle_id: UUID) -> LifecycleRow:
    """One version. Raises TrimtabError (NOT_FOUND)."""
    row = await store.find_lifecycle(work.connection, work.actor.workspace_id, lifecycle_id)
    if row is None:
        raise TrimtabError(Code.NOT_FOUND, f"There is no version (lifecycle) {lifecycle_id} in this workspace.")
    return row


async def create_lifecycle(work: Work, sealer: Sealer, model: ModelRow, given: LifecycleCreate) -> LifecycleRow:
    """Register a version of `model`, pending and in development.

    Raises:
        TrimtabError: ALREADY_EXISTS when the model has the tag, NOT_FOUND for an unknown parent or credential,
            FORBIDDEN for a command of one who is no admin.
    """
    check_command(work, _stored(given.deployment_config))
    if given.parent_lifecycle_id is not None:
        await _require_parent(work, given.parent_lifecycle_id)
    config, credential_id = await _stored_config(work, sealer, model.name, given.version_tag, given.deployment_config)
    config.setdefault("provider", model.provider)
    lifecycle_id = new_id()
    values = {
        "id": lifecycle_id,
        "workspace_id": work.actor.workspace_id,
        "model_id": model.id,
        "version_tag": given.version_tag,
        "deployment_config": config,
        "performance_requirements": _stored(given.performance_requirements),
        "resource_allocation": _stored(given.resource_allocation),
        "description": given.description,
        "parent_lifecycle_id": given.parent_lifecycle_id,
        "lineage": given.lineage,
        "credential_id": credential_id,
        "created_by": work.actor.member_id,
        "now": work.now,
    }
    try:
        await store.insert_lifecycle(work.connection, values)
    except psycopg.errors.UniqueViolation:
        raise _tag_taken(model.name, given.version_tag) from None
    details = {"model_id": str(model.id), "model_name": model.name, "version_tag": given.version_tag}
    await work.history(lifecycle_id, "registered", after=given.version_tag)
    await work.tell("lifecycle", lifecycle_id, "create", "created", details)
    return await get_lifecycle(work, lifecycle_id)


async def update_lifecycle(
    work: Work, sealer: Sealer, row: LifecycleRow, given: LifecycleUpdate
) -> LifecycleRow | None:
    """Change a version that was never approved; None when it has moved on since `row` was read.

    Raises:
        TrimtabError: VERSION_IMMUTABLE, ALREADY_EXISTS, NOT_FOUND for an unknown credential, FORBIDDEN where the
            version has or would have a command and who changes it is no admin.
    """
    check_command(work, row.deployment_config)
    wanted = given.model_dump(exclude_unset=True)
    changes: dict[str, Any] = {
        name: wanted[name] for name in ("version_tag", "description", "lineage") if wanted.get(name) is not None
    }
    if given.performance_requirements is not None:
        changes["performance_requirements"] = _stored(given.performance_requirements)
    if given.resource_allocation is not None:
        changes["resource_allocation"] = _stored(given.resource_allocation)
    if row.frozen_at is not None or row.approval_status not in EDITABLE:
        raise TrimtabError(
            Code.VERSION_IMMUTABLE,
            f"{row.version_tag!r} was approved once, and what was approved stays as it was; create a new version.",
        )
    if given.deployment_config is not None:
        check_command(work, _stored(given.deployment_config))
        tag = changes.get("version_tag", row.version_tag)
        config, credential_id = await _stored_config(work, sealer, row.model_name, tag, given.deployment_config)
        config.setdefault("provider", row.model_provider)
        changes["deployment_config"] = config
        changes["credential_id"] = credential_id
    changes = {name: value for name, value in changes.items() if value != getattr(row, name)}
    if not changes:
        return row
    try:
        updated = await store.update_lifecycle(
            work.connection, {**asdict(row), **changes, "expected": row.version, "now": work.now}
        )
    except psycopg.errors.UniqueViolation:
        raise _tag_taken(row.model_name, changes["version_tag"]) from None
    if not updated:
        return None
    shown = [name for name in changes if name != "credential_id"]
    details = {
        "before": {name: getattr(row, name) for name in shown},
        "after": {name: changes[name] for name in shown},
    }
    await work.history(row.id, "changed", evidence=details)
    await work.tell("lifecycle", row.id, "update", "updated", details)
    return await get_lifecycle(work, row.id)


async def decide(
    work: Work,
    row: LifecycleRow,
    decision: Decision,
    *,
    approver: str | None = None,
    conditions: ApprovalConditions | None = None,
    comment: str = "",
    evidence: dict[str, Any] | None = None,
) -> LifecycleRow | None:
    """Approve, approve on conditions, or reject a version; None when it has moved on since `row` was read.

    The same decision by the same member again changes nothing. Sets `approval_status` only.

    Parameters:
        approver: id or name of the acting member, whom it must name; None stands for that.

    Raises:
        TrimtabError: APPROVER_MISMATCH, FOUR_EYES, CONFLICT when that decision cannot follow the present one.
    """
    check_approver(work, approver)
    if decision != "rejected" and row.created_by == work.actor.member_id:
        settings = await store.workspace_settings(work.connection, work.actor.workspace_id)
        if settings.get("four_eyes") is True:
            raise TrimtabError(
                Code.FOUR_EYES,
                f"{work.actor.name!r} registered {row.version_tag!r}; somebody else must approve it here.",
            )
    wanted = None if conditions is None else conditions.model_dump(mode="json")
    if conditions is not None and conditions.expires_at is not None and conditions.expires_at <= work.now:
        raise TrimtabError(Code.INVALID_REQUEST, "Give a moment in the future.", "conditions.expires_at")
    if row.approval_status == decision and row.approval_conditions == wanted and row.decided_by == work.actor.member_id:
        return row
    if not may_decide(row.approval_status, decision, row.lifecycle_stage):
        by = f" by {row.decided_by_name}" if row.decided_by_name else ""
        stage = " and retired" if row.lifecycle_stage == "retired" else ""
        raise TrimtabError(
            Code.CONFLICT,
            f"{row.version_tag!r} is {row.approval_status}{by}{stage}; it cannot become {decision} now.",
            extra={"approval_status": row.approval_status},
        )
    written = await store.decide(
        work.connection,
        {
            "id": row.id,
            "workspace_id": work.actor.workspace_id,
            "approval_status": decision,
            "conditions": wanted,
            "actor_id": work.actor.member_id,
            "actor_name": work.actor.name,
            "expected": row.version,
            "now": work.now,
        },
    )
    if not written:
        return None
    evidence = evidence or {}
    kept = {**evidence, "conditions": wanted} if wanted is not None else evidence
    await work.history(row.id, decision, before=row.approval_status, after=decision, comment=comment, evidence=kept)
    details = {
        "from": row.approval_status,
        "to": decision,
        "comment": comment,
        "evidence": evidence,
        "conditions": wanted,
        "model_name": row.model_name,
        "version_tag": row.version_tag,
    }
    action, happened = ("reject", "rejected") if decision == "rejected" else ("approve", "approved")
    await work.tell("lifecycle", row.id, action, happened, details)
    await store.notify_deployments(work.connection, row.id)
    return await get_lifecycle(work, row.id)


def check_command(work: Work, config: dict[str, Any]) -> None:
    """Raise TrimtabError (FORBIDDEN) where `config` says what runs on the server, unless the acting member is an admin.

    Parameters:
        config: a version's deployment configuration, as it is kept.
    """
    if work.actor.is_at_least("admin"):
        return
    runtime = config.get("runtime") or {}
    field = next((name for name in COMMAND_FIELDS if runtime.get(name)), None)
    if field is None:
        return
    raise TrimtabError(
        Code.FORBIDDEN,
        f"A version with `runtime.{field}` runs a command as the server's user, so only an admin registers or changes "
        f"it; {work.actor.name!r} has the role {work.actor.role}. Ask an admin to register it; operators may approve "
        "and deploy it then. A model file (`runtime.gguf`) or an `endpoint` needs no admin.",
        f"deployment_config.runtime.{field}",
    )


def check_approver(work: Work, approver: str | None) -> None:
    """Raise TrimtabError (APPROVER_MISMATCH) unless `approver` names the acting member."""
    if approver is None or approver.strip().lower() in (work.actor.name.lower(), str(work.actor.member_id)):
        return
    raise TrimtabError(
        Code.APPROVER_MISMATCH,
        f"The key used here belongs to {work.actor.name!r}, not to {approver!r}; "
        "leave `approver` out, or use the approver's own key.",
        "approver",
    )


async def move(work: Work, row: LifecycleRow, stage: Stage, comment: str = "") -> LifecycleRow | None:
    """Move a version to another stage; None when it has moved on since `row` was read. To the present one: nothing.

    Raises:
        TrimtabError: INVALID_TRANSITION; VERSION_NOT_APPROVED into production; CONFLICT when what is deployed is
            to be retired.
    """
    if row.lifecycle_stage == stage:
        return row
    settings = await store.workspace_settings(work.connection, work.actor.workspace_id)
    in_order = settings.get("stage_order") is True
    allowed = next_stages(row.lifecycle_stage, in_order)
    if stage not in allowed:
        order = " This workspace wants the stages in order." if in_order and row.lifecycle_stage != "retired" else ""
        after = f"what may follow is {', '.join(sorted(allowed))}" if allowed else "nothing follows that"
        raise TrimtabError(
            Code.INVALID_TRANSITION, f"{row.version_tag!r} is in {row.lifecycle_stage}; {after}.{order}", "to_stage"
        )
    if stage == "production":
        require_approval(work, row)
    if stage == "retired":
        await store.lock_model(work.connection, row.model_id)
        live = await store.live_deployments(work.connection, work.actor.workspace_id, lifecycle_id=row.id)
        if live:
            raise TrimtabError(Code.CONFLICT, f"It is deployed as {', '.join(live)}; retire these first.", "to_stage")
    values = {
        "id": row.id,
        "workspace_id": work.actor.workspace_id,
        "stage": stage,
        "expected": row.version,
        "now": work.now,
    }
    if not await store.set_stage(work.connection, values):
        return None
    await work.history(row.id, "stage", before=row.lifecycle_stage, after=stage, comment=comment)
    details = {
        "from": row.lifecycle_stage,
        "to": stage,
        "comment": comment,
        "model_name": row.model_name,
        "version_tag": row.version_tag,
    }
    await work.tell("lifecycle", row.id, "transition", "staged", details)
    return await get_lifecycle(work, row.id)


def require_approval(work: Work, row: LifecycleRow) -> None:
    """Raise TrimtabError (VERSION_NOT_APPROVED) unless the version's approval holds now."""
    name = f"{row.model_name} {row.version_tag}"
    if row.approval_status == "conditional":
        conditions = ApprovalConditions.model_validate(row.approval_conditions or {})
        if conditions.expires_at is None or conditions.expires_at > work.now:
            return
        raise TrimtabError(
            Code.VERSION_NOT_APPROVED,
            f"The conditional approval of {name} expired at {conditions.expires_at.isoformat()}; approve it anew.",
        )
    if row.approval_status != "approved":
        raise TrimtabError(
            Code.VERSION_NOT_APPROVED,
            f"{name} is {row.approval_status}; only approved versions reach production. "
            f"Approve it with POST /api/v1/lifecycles/{row.id}/approve.",
            extra={"approval_status": row.approval_status, "lifecycle_id": str(row.id)},
        )


async def _require_parent(work: Work, parent_id: UUID) -> None:
    if await store.find_lifecycle(work.connection, work.actor.workspace_id, parent_id) is None:
        raise TrimtabError(
            Code.NOT_FOUND, f"There is no version (lifecycle) {parent_id} to descend from.", "parent_lifecycle_id"
        )


async def _stored_config(
    work: Work, sealer: Sealer, model_name: str, tag: str, given: DeploymentConfig
) -> tuple[dict[str, Any], UUID | None]:
    """The configuration as it is kept, with a reference in place of a credential."""
    config = _stored(given)
    if given.credential is None:
        return config, None
    if isinstance(given.credential, CredentialReference):
        found = await credentials.find(work.connection, work.actor.workspace_id, given.credential.id)
        if found is None:
            raise TrimtabError(
                Code.NOT_FOUND,
                f"There is no credential {given.credential.id} in this workspace.",
                "deployment_config.credential",
            )
    else:
        found = await credentials.keep(
            work.connection,
            work.actor,
            sealer,
            work.now,
            name=f"{model_name}@{tag}",
            provider=given.provider or "",
            secret=given.credential,
            rename=True,
        )
    config["credential"] = {"id": str(found.id), "hint": found.hint}
    return config, found.id


def _stored(given: Any) -> dict[str, Any]:
    return {
        name: value for name, value in given.model_dump(mode="json", exclude_unset=True).items() if value is not None
    }


def _tag_taken(model_name: str, tag: str) -> TrimtabError:
    return TrimtabError(
        Code.ALREADY_EXISTS, f"{model_name!r} has a version {tag!r} already; choose another tag.", "version_tag"
    )
