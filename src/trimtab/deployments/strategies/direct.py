"""The strategy `direct`: start all replicas, wait until all are ready, move the traffic at once."""

from __future__ import annotations

from datetime import datetime

from trimtab.deployments.reconcile import (
    MAX_RESTARTS,
    WAIT,
    Plan,
    RunReplicas,
    Step,
    View,
    fail,
    refusal,
    unready_reason,
)


def start(view: View, now: datetime) -> Plan | None:
    """Ask for the replicas."""
    one = view.deployment
    if one.rollout_phase != "pending":
        return None
    if why := refusal(view, one, 0, now):
        return fail(one, why, now)
    return Plan("deploying", "progressing", "starting", (RunReplicas(tuple(range(one.replicas))),))


def await_ready(view: View, now: datetime) -> Plan | None:
    """Wait for every replica; one that cannot run fails the deployment early, any other by the deadline."""
    one = view.deployment
    if one.rollout_phase != "progressing":
        return None
    for replica in view.wanted:
        if replica.status == "failed" or (replica.status != "ready" and replica.restarts >= MAX_RESTARTS):
            again = f" (started {replica.restarts + 1} times)" if replica.restarts else ""
            return fail(one, f"replica {replica.ordinal} failed{again}: {replica.reason}", now)
    if len(view.wanted) == one.replicas and all(replica.status == "ready" for replica in view.wanted):
        fields = {"cutover_revision": None, "endpoint_url": view.wanted[0].url}
        return Plan("deploying", "promoting", "ready, moving traffic", fields=fields, event="deployment.ready")
    if now >= one.deadline_at:
        return fail(one, f"not ready in time: {unready_reason(view)}", now)
    return WAIT


STEPS: tuple[Step, ...] = (start, await_ready)
