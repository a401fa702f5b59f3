"""The verdict on a deployment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trimtab.monitoring.health import MIN_SAMPLES, Observed, Status, judge

GOOD = Observed(100, 1, 99, 200.0, 99, 40.0, 0.001)
ASKED: dict[str, object] = {
    "error_rate": 0.02, "latency_threshold": 800, "ttft_threshold": 100, "cost_per_request": 0.01, "metrics": {},
}  # fmt: skip


def states(seen: Observed, requirements: dict[str, object] = ASKED) -> dict[str, str]:
    return {check.name: check.state for check in judge("healthy", "", 0, 0, requirements, seen).checks}


def test_all_is_well() -> None:
    verdict = judge("healthy", "", 2, 2, ASKED, GOOD)
    assert (verdict.status, verdict.reasons) == ("healthy", ())
    assert {check.state for check in verdict.checks} == {"passed"}
    assert len(verdict.checks) == 6


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (replace(GOOD, errors=3), "error_rate"),
        (replace(GOOD, latency_p95=801.0), "latency_threshold"),
        (replace(GOOD, ttft_p95=101.0), "ttft_threshold"),
        (replace(GOOD, cost_per_request=0.02), "cost_per_request"),
    ],
)
def test_a_broken_requirement(seen: Observed, name: str) -> None:
    verdict = judge("healthy", "", 1, 1, ASKED, seen)
    assert verdict.status == "unhealthy"
    assert [check.name for check in verdict.checks if check.state == "failed"] == [name]
    assert len(verdict.reasons) == 1


def test_too_few_requests_say_nothing() -> None:
    few = Observed(MIN_SAMPLES - 1, MIN_SAMPLES - 1, 0, None, 0, None, None)
    verdict = judge("healthy", "", 1, 1, ASKED, few)
    assert verdict.status == "healthy"
    assert set(states(few).values()) == {"passed", "insufficient_data"}


def test_without_requirements_only_errors_count() -> None:
    assert set(states(GOOD, {})) == {"deployment", "error_rate"}
    assert states(replace(GOOD, errors=6), {})["error_rate"] == "failed"


@pytest.mark.parametrize("status", ["deploying", "failed", "rolled_back", "retired"])
def test_other_states_are_told_as_they_are(status: Status) -> None:
    verdict = judge(status, "so it is", 0, 0, ASKED, GOOD)
    assert (verdict.status, verdict.reasons) == (status, ("so it is",))


def test_replicas() -> None:
    assert judge("healthy", "", 2, 1, {}, GOOD).status == "healthy"
    verdict = judge("healthy", "", 2, 0, {}, GOOD)
    assert (verdict.status, verdict.reasons) == ("unhealthy", ("0 of 2 replicas ready",))
    assert judge("unhealthy", "no answer", 1, 1, {}, GOOD).status == "unhealthy"
