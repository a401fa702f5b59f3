"""What must be true of the database before any part starts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from trimtab.access.bootstrap import ensure_admin_key
from trimtab.db.app_role import application_url, user_of
from trimtab.db.embedded import Urls
from trimtab.db.migrate import is_migrated, migrate
from trimtab.errors import Code, TrimtabError
from trimtab.sealing import Sealer
from trimtab.server.secrets import check_sealing_key
from trimtab.settings import Settings

log = logging.getLogger("trimtab.supervisor")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A database that parts may use.

    Parameters:
        app_url: connection string for the parts.
        admin_key: the admin API key where one was generated now: it is stored as a hash only, so show it.
    """

    app_url: str = field(repr=False)
    admin_key: str | None = field(default=None, repr=False)


def prepare_database(settings: Settings, urls: Urls) -> Prepared:
    """Bring the schema up to date, check the secret key, make sure that there is an admin key.

    Parameters:
        settings: with `secret_key` filled in.
        urls: of the owner, for the migrations, and of the application. Where both are the same and privileged, the
            application gets a role of its own.

    Raises:
        TrimtabError: DATABASE_NEWER, MIGRATION_FAILED, DATABASE_UNAVAILABLE, SEALED_BY_ANOTHER, FORBIDDEN.
    """
    if settings.secret_key is None:
        raise ValueError("the secret key was not loaded")
    migrate(urls.owner, app_role=user_of(urls.app))
    app_url = _admitted(settings.secret_key, urls)
    return Prepared(app_url, ensure_admin_key(app_url, settings.admin_key))


def check_database(settings: Settings, urls: Urls) -> Prepared:
    """What a gateway asks of a database that other roles prepare.

    One that is down, or that nobody has prepared yet, is no obstacle: the gateway serves what it has stored, and what
    it is told once it can be.

    Raises:
        TrimtabError: DATABASE_NEWER, SEALED_BY_ANOTHER, FORBIDDEN.
    """
    if settings.secret_key is None:
        raise ValueError("the secret key was not loaded")
    try:
        if is_migrated(urls.owner):
            return Prepared(_admitted(settings.secret_key, urls))
        log.warning("the database is not prepared for this version; start the role api or controller on it")
    except TrimtabError as error:
        if error.code is not Code.DATABASE_UNAVAILABLE:
            raise
        log.warning("%s; serving what is stored", error)
    return Prepared(urls.app)


def _admitted(secret_key: str, urls: Urls) -> str:
    """The connection string for the parts, once the secret key is known to be this database's."""
    check_sealing_key(urls.app, secret_key)
    return application_url(urls.app, Sealer(secret_key)) if urls.owner == urls.app else urls.app
