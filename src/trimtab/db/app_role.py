"""The login role of the program in somebody's own PostgreSQL, where only a privileged one was given.

A role that owns the tables or bypasses row level security must not serve requests. Given such a connection string,
Trimtab makes itself a role without rights of its own, with a random password that is kept sealed in the database, so
that every host that starts with the same secret key finds the same one.
"""

from __future__ import annotations

import secrets

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb

from trimtab.errors import Code, TrimtabError
from trimtab.sealing import Sealer

NAME = "trimtab_app"
KEY = "app_role"
PRIVILEGED = """
select r.rolsuper or r.rolbypassrls or r.rolcreaterole
    or exists (select from pg_namespace n where n.nspname = 'trimtab' and pg_has_role(r.oid, n.nspowner, 'member'))
from pg_roles r where r.rolname = current_user
"""


def application_url(url: str, sealer: Sealer) -> str:
    """Return the connection string that the program is to use in place of `url`: the same one unless its role is
    privileged. Call it after the migrations.

    Raises:
        TrimtabError: DATABASE_UNAVAILABLE; FORBIDDEN when the role is privileged but may not make another.
    """
    try:
        with psycopg.connect(url) as connection:
            row = connection.execute(PRIVILEGED).fetchone()
            if row is None or not row[0]:
                return url
            role, password = _ensure_role(connection, sealer)
    except psycopg.OperationalError as error:
        raise TrimtabError(Code.DATABASE_UNAVAILABLE, f"the database cannot be reached: {str(error).strip()}") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise TrimtabError(
            Code.FORBIDDEN,
            f"the database role may change the schema, so it must not serve requests, and it may not make a role that "
            f"does ({str(error).strip()}); make one (create role trimtab_app login password '...'), give its address "
            "in TRIMTAB_DATABASE_URL and this one in TRIMTAB_DATABASE_OWNER_URL",
            field="database_url",
        ) from None
    return make_conninfo(url, user=role, password=password)


def _ensure_role(connection: psycopg.Connection, sealer: Sealer) -> tuple[str, str]:
    """The role's name and password; made now unless they are noted in the database already."""
    # Roles belong to the whole server, so the name says for which database.
    role = f"{NAME}_{connection.info.dbname}"[:63]
    connection.execute(
        "insert into trimtab.instance (key, value) values (%s, %s) on conflict (key) do nothing",
        (KEY, Jsonb({"role": role, "password": sealer.seal_text(secrets.token_urlsafe(32))})),
    )
    row = connection.execute("select value from trimtab.instance where key = %s for update", (KEY,)).fetchone()
    assert row is not None
    role, password = row[0]["role"], sealer.unseal_text(row[0]["password"])
    hashed = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    name = sql.Identifier(role)
    if connection.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone() is None:
        connection.execute(sql.SQL("create role {} with login").format(name))
    connection.execute(sql.SQL("alter role {} with login password {}").format(name, sql.Literal(hashed)))
    connection.execute(sql.SQL("grant authenticated, trimtab_program to {}").format(name))
    return role, password


def user_of(url: str) -> str | None:
    """The user that a connection string names, None where it leaves that to the environment."""
    user = conninfo_to_dict(url).get("user")
    return str(user) if user else None
