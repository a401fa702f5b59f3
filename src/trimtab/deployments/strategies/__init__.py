"""The ways to roll out: deployment type -> the steps until promotion."""

from __future__ import annotations

from trimtab.deployments.reconcile import Step
from trimtab.deployments.strategies import direct

STRATEGIES: dict[str, tuple[Step, ...]] = {"direct": direct.STEPS}
