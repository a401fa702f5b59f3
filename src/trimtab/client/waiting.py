"""When something that takes its time is done; decided from what the server says, without input or output."""

from __future__ import annotations

from typing import Literal

from trimtab.client.errors import DeploymentFailed
from trimtab.deployments.schemas import Deployment

Goal = Literal["serve", "roll_back"]

POLL_SECONDS = 0.25
DEFAULT_SECONDS = 900.0
"""How long a wait lasts where nothing else is said; the server gives up on a deployment before that."""


def reached(deployment: Deployment, goal: Goal) -> bool:
    """Whether a deployment has got where it was sent.

    Parameters:
        goal: `serve` for one that is rolled out, `roll_back` for one whose share goes back to the one before.

    Raises:
        DeploymentFailed: it will not get there any more.
    """
    if goal == "serve":
        if deployment.ended_at is not None:
            raise _failed(deployment, f"is {deployment.status}")
        return deployment.rollout_phase == "succeeded" and deployment.ending_status is None
    if deployment.status == "rolled_back" or deployment.ending_status == "rolled_back":
        return True
    if deployment.ended_at is not None or deployment.rollout_phase == "succeeded":
        raise _failed(deployment, "was not rolled back")
    return False


def _failed(deployment: Deployment, what: str) -> DeploymentFailed:
    why = f": {deployment.status_reason}" if deployment.status_reason else ""
    return DeploymentFailed(f"the deployment {deployment.deployment_name!r} {what}{why}", deployment)
