"""What must be true of the database before any part starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from trimtab.access.bootstrap import ensure_admin_key
from trimtab.db.app_role import application_url, user_of
from trimtab.db.embedded import Urls
from trimtab.db.migrate import migrate
from trimtab.sealing import Sealer
from trimtab.server.secrets import check_sealing_key
from trimtab.server.settings import Settings


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
    app_url = urls.app
    check_sealing_key(app_url, settings.secret_key)
    if urls.owner == urls.app:
        app_url = application_url(urls.app, Sealer(settings.secret_key))
    return Prepared(app_url, ensure_admin_key(app_url, settings.admin_key))
