"""Fixtures of the acceptance tests: one server with one scripted model server, for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.acceptance.serving import ServerProcess, serving
from tests.acceptance.upstream import Upstream, running_upstream


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with its own embedded PostgreSQL."""
    with serving(tmp_path_factory.mktemp("acceptance") / "data") as running:
        yield running


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A scripted model server."""
    with running_upstream() as running:
        yield running
