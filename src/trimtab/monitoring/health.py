"""The verdict on a deployment's health. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CheckState = Literal["passed", "failed", "insufficient_data"]
Status = Literal["deploying", "healthy", "unhealthy", "failed", "rolled_back", "retired"]

MIN_SAMPLES = 10
"""Fewer requests than this say nothing about a rate or a percentile."""

DEFAULT_ERROR_RATE = 0.05
"""What a version without an `error_rate` of its own is held to."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a deployment did in the window; times in milliseconds, None where nothing was measured.

    Parameters:
        requests: all of them.
        errors: those that failed through the upstream's fault.
        answered: those whose latency counts.
        streamed: those whose time to first token counts.
        cost_per_request: mean, USD.
    """

    requests: int
    errors: int
    answered: int
    latency_p95: float | None
    streamed: int
    ttft_p95: float | None
    cost_per_request: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; see `HealthCheck` for the meanings."""

    name: str
    state: CheckState
    detail: str
    observed: float | None = None
    threshold: float | None = None
    unit: str | None = None
    samples: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A status, why it is not `healthy` (empty when it is), and all that was looked at."""

    status: Status
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]


def judge(
    status: Status,
    status_reason: str,
    replicas_wanted: int,
    replicas_ready: int,
    requirements: Mapping[str, object],
    observed: Observed,
) -> Verdict:
    """The health of a deployment.

    One that is being deployed, has failed or has ended is that, whatever its traffic. Otherwise it is unhealthy when
    its controller says so, when no replica is ready, or when a requirement was broken on enough requests; a requirement
    that too few requests speak of counts neither way.

    Parameters:
        status: as its controller has set it, with its reason.
        replicas_wanted: how many are meant to run; 0 where there are none to look at.
        requirements: `performance_requirements` of the version.
    """
    checks = [_deployment(status, status_reason), *_replicas(replicas_wanted, replicas_ready)]
    checks += _requirements(requirements, observed)
    failed = tuple(check.detail for check in checks if check.state == "failed")
    if status not in ("healthy", "unhealthy"):
        return Verdict(status, (status_reason or f"the deployment is {status}",), tuple(checks))
    return Verdict("unhealthy" if failed else "healthy", failed, tuple(checks))


def _deployment(status: Status, reason: str) -> Check:
    if status == "healthy":
        return Check("deployment", "passed", "the deployment is healthy")
    state: CheckState = "insufficient_data" if status == "deploying" else "failed"
    return Check("deployment", state, f"the deployment is {status}" + (f": {reason}" if reason else ""))


def _replicas(wanted: int, ready: int) -> list[Check]:
    if not wanted:
        return []
    detail = f"{ready} of {wanted} replicas ready"
    return [Check("replicas", "passed" if ready else "failed", detail, float(ready), None, None, None)]


def _requirements(requirements: Mapping[str, object], seen: Observed) -> list[Check]:
    wanted_rate = _number(requirements.get("error_rate"))
    rate = seen.errors / seen.requests if seen.requests else None
    checks = [
        _check("error_rate", "error rate", rate, DEFAULT_ERROR_RATE if wanted_rate is None else wanted_rate,
               "fraction", seen.requests)
    ]  # fmt: skip
    for name, what, value, unit, samples in (
        ("latency_threshold", "p95 latency", seen.latency_p95, "ms", seen.answered),
        ("ttft_threshold", "p95 time to first token", seen.ttft_p95, "ms", seen.streamed),
        ("cost_per_request", "cost per request", seen.cost_per_request, "USD", seen.requests),
    ):
        threshold = _number(requirements.get(name))
        if threshold is not None:
            checks.append(_check(name, what, value, threshold, unit, samples))
    return checks


def _check(name: str, what: str, value: float | None, threshold: float, unit: str, samples: int) -> Check:
    if value is None or samples < MIN_SAMPLES:
        detail = f"{what}: {samples} requests in the window, {MIN_SAMPLES} are needed to judge"
        return Check(name, "insufficient_data", detail, value, threshold, unit, samples)
    if value > threshold:
        detail = f"{what} is {value:.4g}, above {threshold:.4g} ({unit}, {samples} requests)"
        return Check(name, "failed", detail, value, threshold, unit, samples)
    detail = f"{what} is {value:.4g}, at most {threshold:.4g} is asked for ({unit}, {samples} requests)"
    return Check(name, "passed", detail, value, threshold, unit, samples)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
