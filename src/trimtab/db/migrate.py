"""Brings a database to the schema of this program: plain SQL files, each in one transaction, under an advisory lock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import sql

from trimtab.db.database import SYSTEM
from trimtab.errors import Code, TrimtabError

LOCK = 0x7472_696D_7461_62  # "trimtab", so that no other program's advisory lock is met by chance
FILE_NAME = re.compile(r"^(\d{14})_([a-z0-9_]+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file, named `<14 digits>_<name>.sql` as the Supabase command line wants it."""

    version: str
    name: str
    sql: str


def load_migrations() -> list[Migration]:
    """The program's own migrations, oldest first."""
    found = []
    for entry in files("trimtab.db").joinpath("migrations").iterdir():
        if match := FILE_NAME.match(entry.name):
            found.append(Migration(match[1], match[2], entry.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def migrate(owner_url: str, app_role: str | None = None, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing.

    Parameters:
        owner_url: connection string of the role that owns (or will own) the schema.
        app_role: login role that the program will use; made a member of `authenticated` and `trimtab_program`.
        migrations: instead of the program's own; for tests.

    Returns:
        The versions applied now.

    Raises:
        TrimtabError: FORBIDDEN when the role may not be admitted,
            DATABASE_NEWER when the database holds a migration that this program does not know,
            MIGRATION_FAILED when one fails (it is rolled back whole), DATABASE_UNAVAILABLE.
    """
    known = list(load_migrations() if migrations is None else migrations)
    done: list[str] = []
    try:
        with psycopg.connect(owner_url, autocommit=True) as connection:
            for migration in known:
                if _apply(connection, migration, known):
                    done.append(migration.version)
            if app_role is not None:
                _admit(connection, app_role)
    except psycopg.OperationalError as error:
        raise _unavailable(error) from error
    return done


def is_migrated(url: str) -> bool:
    """Whether the database has the whole schema of this program; `url` may be of the owner or of the application.

    Raises:
        TrimtabError: DATABASE_NEWER, DATABASE_UNAVAILABLE.
    """
    known = load_migrations()
    try:
        with psycopg.connect(url) as connection:
            # Only the claims: an owner need not be able to become `authenticated`.
            connection.execute("select set_config('request.jwt.claims', %s, true)", (SYSTEM.claims(),))
            applied = _applied(connection)
    except psycopg.OperationalError as error:
        raise _unavailable(error) from error
    _refuse_newer(applied, known)
    return applied == {migration.version for migration in known}


def _unavailable(error: psycopg.Error) -> TrimtabError:
    return TrimtabError(Code.DATABASE_UNAVAILABLE, f"The database cannot be reached: {str(error).strip()}")


def _apply(connection: psycopg.Connection, migration: Migration, known: Sequence[Migration]) -> bool:
    """Apply one migration unless it is there; the lock and the check are inside its own transaction, so that
    several programs starting at once, and poolers that share sessions, are safe."""
    try:
        with connection.transaction():
            connection.execute("set local lock_timeout = '60s'")
            connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
            applied = _applied(connection)
            _refuse_newer(applied, known)
            if migration.version in applied:
                return False
            connection.execute("set local lock_timeout = '5s'")
            connection.execute("set local statement_timeout = '15min'")
            connection.execute(migration.sql.encode())
            connection.execute(
                "insert into trimtab.schema_migrations (version, name) values (%s, %s)",
                (migration.version, migration.name),
            )
            return True
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise TrimtabError(
            Code.MIGRATION_FAILED,
            f"Migration {migration.version}_{migration.name} failed and was rolled back: {str(error).strip()}. "
            "Nothing of it is in the database; mend the cause and start again, it goes on from there.",
        ) from error


def _applied(connection: psycopg.Connection) -> set[str]:
    exists = connection.execute("select to_regclass('trimtab.schema_migrations')").fetchone()
    if exists is None or exists[0] is None:
        return set()
    return {row[0] for row in connection.execute("select version from trimtab.schema_migrations")}


def _refuse_newer(applied: set[str], known: Sequence[Migration]) -> None:
    unknown = sorted(applied - {migration.version for migration in known})
    if unknown:
        raise TrimtabError(
            Code.DATABASE_NEWER,
            f"The database has migration {unknown[-1]}, which this Trimtab does not know: "
            "it belongs to a newer version. Upgrade this program, or point it at another database.",
        )


def _admit(connection: psycopg.Connection, app_role: str) -> None:
    """Let the program's login role act as `authenticated`; roles belong to the whole server, so another database on it
    may have made them, and then its owner grants them."""
    groups = (
        "select bool_and(pg_has_role(%s, name, 'member')) from unnest(array['authenticated', 'trimtab_program']) name"
    )
    try:
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
            row = connection.execute(groups, (app_role,)).fetchone()
            if row is None or not row[0]:
                grant = sql.SQL("grant authenticated, trimtab_program to {}")
                connection.execute(grant.format(sql.Identifier(app_role)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise TrimtabError(
            Code.FORBIDDEN,
            f"The database role {app_role!r} must be a member of `authenticated` and `trimtab_program`, and this one "
            f"may not grant that ({str(error).strip()}). Have an administrator of the server run: "
            f"grant authenticated, trimtab_program to {app_role} with admin option",
            field="database_url",
        ) from None
