"""Deployments as the gateway works with them: decoded, unsealed, with what is under way on each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from yarl import URL

from trimtab.gateway.protocols.openai import CHAT_PATH, Settings
from trimtab.routing.records import DeploymentEntry

RECENT_SECONDS = 600.0
"""How long after its last request a deployment is still reported as used."""

Headers = list[tuple[str, str]]


class LiveTarget:
    """One replica.

    Parameters:
        base: its base URL, as in the entry.
        endpoint_path: path that takes the place of the dialect's own.
    """

    __slots__ = ("base", "chat_url", "failed_until", "in_flight")

    def __init__(self, base: str, endpoint_path: str | None) -> None:
        self.base = base
        address, mark, query = base.partition("?")
        path = endpoint_path or CHAT_PATH
        self.chat_url = URL(f"{address.rstrip('/')}/{path.lstrip('/')}{mark}{query}", encoded=True)
        self.in_flight = 0
        self.failed_until = 0.0


class Activity:
    """What is under way on one deployment, and when a request on it last began or ended (monotonic seconds)."""

    __slots__ = ("in_flight", "last_used")

    def __init__(self) -> None:
        self.in_flight = 0
        self.last_used = 0.0


class LiveDeployment:
    """One deployment as one entry describes it; a later entry for it takes over the counters.

    Parameters:
        entry: its entry in the snapshot.
        unseal: opens a sealed credential.
        before: the live form of the entry before.

    Raises:
        TrimtabError: SEALED_BY_ANOTHER.
    """

    __slots__ = (
        "activity",
        "auth_headers",
        "entry",
        "overrides",
        "parameters",
        "response_headers",
        "targets",
        "upstream_model",
    )

    def __init__(self, entry: DeploymentEntry, unseal: Callable[[str], str], before: LiveDeployment | None) -> None:
        self.entry = entry
        known: dict[str, LiveTarget] = {}
        if before is not None and before.entry.endpoint_path == entry.endpoint_path:
            known = {target.base: target for target in before.targets}
        path = entry.endpoint_path
        self.targets: list[LiveTarget] = [known.get(base) or LiveTarget(base, path) for base in entry.targets]
        self.auth_headers: Headers = []
        if entry.credential is not None:
            self.auth_headers = _auth_headers(entry.provider, unseal(entry.credential))
        self.upstream_model = entry.upstream_model or entry.model_name
        self.parameters = Settings(entry.parameters)
        self.overrides = Settings(entry.overrides)
        self.response_headers: list[tuple[bytes, bytes]] = [
            (b"x-trimtab-deployment", entry.id.encode()),
            (b"x-trimtab-version", entry.version_tag.encode("utf-8")),
        ]
        self.activity: Activity = Activity() if before is None else before.activity


def _auth_headers(provider: str, credential: str) -> Headers:
    if provider == "anthropic":
        return [("x-api-key", credential), ("anthropic-version", "2023-06-01")]
    return [("authorization", f"Bearer {credential}")]


class LiveDeployments:
    """All deployments that this gateway has met, made on first use.

    Parameters:
        unseal: opens a sealed credential.
    """

    def __init__(self, unseal: Callable[[str], str]) -> None:
        self._unseal = unseal
        self._live: dict[str, LiveDeployment] = {}

    def of(self, entry: DeploymentEntry) -> LiveDeployment:
        """The live form of `entry`. Raises TrimtabError (SEALED_BY_ANOTHER)."""
        live = self._live.get(entry.id)
        if live is not None and live.entry is entry:
            return live
        made = LiveDeployment(entry, self._unseal, live)
        self._live[entry.id] = made
        return made

    def used_lately(self, current: Mapping[str, DeploymentEntry]) -> list[dict[str, object]]:
        """What was used lately: `id`, `in_flight`, and `age` (seconds since a request on it last began or ended).

        Forgets what is neither in `current` nor used lately.
        """
        now = time.monotonic()
        recent: list[dict[str, object]] = []
        for key, live in list(self._live.items()):
            activity = live.activity
            if activity.in_flight or (activity.last_used and now - activity.last_used < RECENT_SECONDS):
                age = 0.0 if activity.in_flight else now - activity.last_used
                recent.append({"id": key, "in_flight": activity.in_flight, "age": age})
            elif key not in current:
                del self._live[key]
        return recent

    def in_flight(self) -> int:
        """Requests under way on all deployments."""
        return sum(live.activity.in_flight for live in self._live.values())
