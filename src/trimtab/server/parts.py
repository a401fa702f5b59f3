"""The parts of which a server is made."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.settings import Role


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of part.

    Parameters:
        name: as in the process list and the log; workers beyond the first carry a number (`web-1`).
        entry: import string of `def run(context: PartContext) -> int`, its result being the exit status.
        roles: the roles of the program that have this part.
        per_worker: whether there are as many as `Settings.workers`.
        listens: whether it is given the listening socket.
        drains: whether it finishes requests in flight first, for which it has `Settings.drain_seconds`.
        grace: seconds it has, after SIGTERM and after draining, to end by itself.
    """

    name: str
    entry: str
    roles: frozenset[Role]
    per_worker: bool = False
    listens: bool = False
    drains: bool = False
    grace: float = 10.0


PARTS: tuple[Part, ...] = (
    Part(
        "web",
        "trimtab.server.web:run",
        frozenset({"all", "gateway", "api"}),
        per_worker=True,
        listens=True,
        drains=True,
    ),
    Part("shipper", "trimtab.metering.shipper:run", frozenset({"all", "gateway"})),
    Part("controller", "trimtab.server.controller:run", frozenset({"all", "controller"})),
    Part("runner", "trimtab.deployments.runner:run", frozenset({"all", "controller"}), grace=20.0),
)
"""All parts, in the order in which they are stopped; they start all at once."""
