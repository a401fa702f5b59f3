"""What a replica is told to run or to watch; pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from trimtab.deployments.records import Deployment
from trimtab.deployments.versions import Version

Kind = Literal["external", "process"]

DEADLINES: dict[Kind, int] = {"external": 30, "process": 600}
"""Seconds until a rollout whose replicas are not ready has failed; a mistaken URL should be told of soon."""


def replica_spec(version: Version, ordinal: int) -> tuple[Kind, dict[str, Any]]:
    """The kind of a version's replicas, and the specification of one of them.

    An external one has its `endpoint`; a process has the version's `runtime`, its `resources`, and `name`, what the
    local engine calls the model.
    """
    if version.runtime["kind"] == "process":
        name = version.deployment_config.get("upstream_model") or version.model_name
        return "process", {"runtime": version.runtime, "resources": version.resource_allocation, "name": name}
    return "external", {"endpoint": version.endpoints[ordinal]}


def kind_of(version: Version) -> Kind:
    """The kind of a version's replicas."""
    return "process" if version.runtime["kind"] == "process" else "external"


def progress_deadline(one: Deployment) -> timedelta:
    """How long an attempt of a deployment may take to become ready."""
    return timedelta(seconds=float(one.config["progress_deadline_seconds"]))
