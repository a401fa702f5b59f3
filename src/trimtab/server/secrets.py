"""The secret key that seals credentials: where it comes from, and whether it is the one this database knows."""

from __future__ import annotations

import psycopg
from cryptography.fernet import Fernet
from psycopg.types.json import Jsonb

from trimtab.datadir import DataDir
from trimtab.db.database import SET_SCOPE, SYSTEM
from trimtab.errors import Code, TrimtabError
from trimtab.sealing import Sealer
from trimtab.settings import Settings, check_secret_key

FILE = "secret.key"
_INSTANCE_KEY = "sealing_key_fingerprints"


def load_or_create_secret_key(settings: Settings, data_dir: DataDir) -> str:
    """Return the Fernet keys of `settings`, else of `<data-dir>/secret.key`, which is made (0600) where absent.

    Raises TrimtabError (INVALID_SETTING, DATA_DIR_NOT_WRITABLE).
    """
    if (known := find_secret_key(settings)) is not None:
        return known
    key = Fernet.generate_key()
    data_dir.write_private(FILE, key + b"\n")
    return key.decode("ascii")


def find_secret_key(settings: Settings) -> str | None:
    """Return the Fernet keys of `settings`, else of `<data-dir>/secret.key`, None where there is neither.

    Raises TrimtabError (INVALID_SETTING).
    """
    if settings.secret_key is not None:
        return settings.secret_key
    path = settings.data_dir / FILE
    try:
        return check_secret_key(path.read_text("ascii"), str(path))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise TrimtabError(
            Code.INVALID_SETTING, f"the secret key in {path} cannot be read: {error}", field="secret_key"
        ) from None


def check_sealing_key(database_url: str, secret_key: str) -> None:
    """Make sure that one of the keys is among those that this database was sealed with; note new ones.

    The first start notes the keys; a later one with none of them is refused, since it could unseal nothing.
    `database_url` is that of the application role. Raises TrimtabError (SEALED_BY_ANOTHER, DATABASE_UNAVAILABLE).
    """
    own = Sealer(secret_key).fingerprints()
    try:
        with psycopg.connect(database_url) as connection:
            connection.execute(SET_SCOPE, (SYSTEM.claims(),))
            # Inserting first makes two first starts at once agree on one row.
            connection.execute(
                "insert into trimtab.instance (key, value) values (%s, %s) on conflict (key) do nothing",
                (_INSTANCE_KEY, Jsonb(own)),
            )
            row = connection.execute(
                "select value from trimtab.instance where key = %s for update", (_INSTANCE_KEY,)
            ).fetchone()
            known: list[str] = row[0] if row else own
            if not set(known) & set(own):
                raise TrimtabError(
                    Code.SEALED_BY_ANOTHER,
                    f"the credentials in this database were sealed with another secret key "
                    f"(fingerprint {known[0]}, this one is {own[0]}); start with that key in TRIMTAB_SECRET_KEY "
                    f"or in <data-dir>/{FILE}; for rotation give both, the new one first",
                    field="secret_key",
                )
            if set(own) - set(known):
                connection.execute(
                    "update trimtab.instance set value = %s where key = %s",
                    (Jsonb(own + [key for key in known if key not in own]), _INSTANCE_KEY),
                )
    except psycopg.OperationalError as error:
        raise TrimtabError(Code.DATABASE_UNAVAILABLE, f"the database cannot be reached: {str(error).strip()}") from None
