"""What must be true of the database before any part starts."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict

from trimtab.access.bootstrap import ensure_admin_key
from trimtab.db.embedded import Urls
from trimtab.db.migrate import migrate
from trimtab.server.secrets import check_sealing_key
from trimtab.server.settings import Settings


def prepare_database(settings: Settings, urls: Urls) -> str | None:
    """Bring the schema up to date, check the secret key, make sure that there is an admin key.

    Parameters:
        settings: with `secret_key` filled in.
        urls: of the owner, for the migrations, and of the application.

    Returns:
        The admin API key where one was generated now: it is stored as a hash only, so show it.

    Raises:
        TrimtabError: DATABASE_NEWER, MIGRATION_FAILED, DATABASE_UNAVAILABLE, SEALED_BY_ANOTHER.
    """
    if settings.secret_key is None:
        raise ValueError("the secret key was not loaded")
    user = conninfo_to_dict(urls.app).get("user")
    migrate(urls.owner, app_role=str(user) if user else None)
    check_sealing_key(urls.app, settings.secret_key)
    return ensure_admin_key(urls.app, settings.admin_key)
