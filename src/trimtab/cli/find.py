"""Finds what a user means: names where ids are, `model@version`, `model@environment`."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from trimtab.cli.failure import EXIT_USAGE, Failure

if TYPE_CHECKING:
    from trimtab.cli.session import Session
    from trimtab.deployments.schemas import Deployment
    from trimtab.registry.schemas import Lifecycle

ENVIRONMENTS = ("development", "staging", "production")


def is_id(text: str) -> bool:
    """Whether `text` is an id and no name."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def version(session: Session, text: str) -> Lifecycle:
    """The version that `text` means: its id, or `model@version`. Raises Failure."""
    if is_id(text):
        return session.client.lifecycles.get(text)
    name, at, tag = text.rpartition("@")
    if not at or not name or not tag:
        raise Failure(
            f"{text!r} is no version; give MODEL@VERSION such as assistant@v1.0.0, or the version's id",
            "invalid_value",
            status=EXIT_USAGE,
        )
    model = session.client.models.get(name)
    found = session.client.lifecycles.list(model_id=model.id, version_tag=tag, limit=1).page().items
    if found:
        return found[0]
    known = [item.version_tag for item in session.client.lifecycles.list(model_id=model.id, limit=10).page().items]
    there = f"it has {', '.join(known)}" if known else "it has none yet"
    raise Failure(f"{model.name} has no version {tag}; {there}", "not_found")


def deployment(session: Session, text: str, environment: str) -> Deployment:
    """The deployment that `text` means.

    Parameters:
        text: an id, MODEL (what serves it in `environment`), MODEL@ENVIRONMENT, or MODEL@VERSION (its newest one).

    Raises Failure.
    """
    if is_id(text):
        return session.client.deployments.get(text)
    name, at, place = text.rpartition("@")
    if not at:
        name, place = text, environment
    model = session.client.models.get(name)
    if place in ENVIRONMENTS:
        found = session.client.deployments.list(model_id=model.id, environment=place).all()
    else:
        found = session.client.deployments.list(lifecycle_id=version(session, text).id).all()
    if not found:
        raise Failure(f"{model.name} is not deployed as {place}; `trimtab deploy` does that", "not_found")
    # What serves comes first: the one with the greatest share, of those that live; the newest where none does.
    return max(found, key=lambda one: (one.ended_at is None, one.traffic_percentage, one.created_at))
