"""What is checked before a deployment may begin; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from trimtab.deployments.records import Runner
from trimtab.deployments.versions import Version
from trimtab.errors import Code, TrimtabError


@dataclass(frozen=True, slots=True)
class Capacity:
    """What there is to run processes on.

    Parameters:
        runners: the machines; empty where none is known.
        held_memory_mb: what running replicas were promised of their memory.
        gateway_hosts: names of the machines whose gateways live.
    """

    runners: Sequence[Runner]
    held_memory_mb: int
    gateway_hosts: Sequence[str] = ()


def check_approval(version: Version, environment: str, weight: int, now: datetime) -> None:
    """Refuse what the version's approval does not allow.

    Parameters:
        weight: the share it would have, in basis points.

    Raises:
        TrimtabError: VERSION_NOT_APPROVED, APPROVAL_LIMIT.
    """
    name = f"Version {version.version_tag} of {version.model_name!r}"
    command = f"POST /api/v1/lifecycles/{version.lifecycle_id}/approve"
    extra = {"lifecycle_id": str(version.lifecycle_id), "approval_status": version.approval_status}
    if environment != "production":
        if version.approval_status == "rejected":
            raise TrimtabError(
                Code.VERSION_NOT_APPROVED,
                f"{name} is rejected and cannot be deployed; approve it ({command}) or deploy another version.",
                "lifecycle_id",
                extra,
            )
        return
    if version.approval.refusal(0, now) is not None:
        was = "its conditional approval has ended" if version.approval_status == "conditional" else "not approved"
        raise TrimtabError(
            Code.VERSION_NOT_APPROVED,
            f"{name} is {version.approval_status} ({was}); only approved versions go to production. "
            f"Approve it with `trimtab versions approve '{version.model_name}@{version.version_tag}'` or {command}.",
            "lifecycle_id",
            extra,
        )
    if version.approval.refusal(weight, now) is not None:
        most = version.approval.max_weight / 100
        raise TrimtabError(
            Code.APPROVAL_LIMIT,
            f"{name} is approved for at most {most:g} % of the traffic, and would have {weight / 100:g} %. "
            f"Take a smaller share beside another deployment, or approve it without that limit ({command}).",
            "traffic_percentage",
            {**extra, "max_traffic_percentage": most, "traffic_percentage": weight / 100},
        )


def check_reach(capacity: Capacity) -> None:
    """Refuse processes that a gateway could not reach: they listen on the loopback address of their runner's machine.

    Raises:
        TrimtabError: CONFLICT with the names of the machines.
    """
    runners = sorted({runner.hostname for runner in capacity.runners})
    gateways = sorted(set(capacity.gateway_hosts))
    if not runners or not gateways or len({*runners, *gateways}) == 1:
        return
    raise TrimtabError(
        Code.CONFLICT,
        "A model that Trimtab runs itself is reached from its own machine only, and gateways run on "
        f"{', '.join(gateways)} with runners on {', '.join(runners)}. Run both on one machine, or start the model "
        "server yourself and register a version with its `endpoint`.",
        "lifecycle_id",
        {"gateway_hosts": gateways, "runner_hosts": runners},
    )


def check_resources(resources: dict[str, Any], replicas: int, capacity: Capacity) -> None:
    """Refuse replicas that the machines cannot hold.

    CPUs are shared between deployments, so only these replicas count; GPUs likewise; memory is what others that run
    have left.

    Parameters:
        resources: of one replica: `cpu` (cores), `memory_mb`, `gpu` (devices); each may be absent.

    Raises:
        TrimtabError: RESOURCES_EXCEEDED with the numbers.
    """
    if not capacity.runners:
        return
    for field, unit, present, held in (
        ("cpu", "CPUs", [runner.cpu for runner in capacity.runners], 0),
        ("memory_mb", "MB of memory", [runner.memory_mb for runner in capacity.runners], capacity.held_memory_mb),
        ("gpu", "GPUs", [runner.gpu for runner in capacity.runners], 0),
    ):
        each = resources.get(field) or 0
        free = sum(present) - held
        if not each or (each <= max(present) and each * replicas <= free):
            continue
        machines = "this machine has" if len(present) == 1 else f"the {len(present)} machines have"
        taken = f", of which running replicas hold {held}" if held else ""
        raise TrimtabError(
            Code.RESOURCES_EXCEEDED,
            f"{replicas} x {each} {unit} are asked for, and {machines} {sum(present)}{taken}. "
            "Register a version with a smaller resource_allocation, use fewer replicas, or retire something first.",
            f"resource_allocation.{field}",
            {"wanted": each * replicas, "available": max(free, 0), "largest_machine": max(present)},
        )
