"""The program's settings: read once from the environment and the command's flags, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

from trimtab.errors import Code, TrimtabError

Role = Literal["all", "gateway", "api", "controller"]
LogLevel = Literal["debug", "info", "warning", "error"]

MAX_WORKERS = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one server.

    Parameters:
        data_dir: holds the embedded database, the spool, artifacts and secrets; absolute.
        host: address to listen on.
        port: TCP port; 0 lets the system choose one.
        role: which parts run here.
        workers: number of web worker processes.
        database_url: the application role in your own PostgreSQL; None for the embedded one.
        database_owner_url: connection string by which migrations run there; None stands for `database_url`.
        database_replica_url: a read replica for analytics.
        admin_key: the first admin API key; None lets one be generated and printed once.
        secret_key: Fernet keys, comma-separated, the first one seals; None for `<data-dir>/secret.key`.
        webhook_private_targets: whether webhooks may go to loopback and private addresses.
        drain_seconds: how long requests in flight may take to finish at shutdown.
        log_level: least severe messages that are logged.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8700
    role: Role = "all"
    workers: int = 1
    database_url: str | None = field(default=None, repr=False)
    database_owner_url: str | None = field(default=None, repr=False)
    database_replica_url: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    webhook_private_targets: bool = False
    drain_seconds: float = 30.0
    log_level: LogLevel = "info"

    @classmethod
    def from_env(
        cls,
        env: Mapping[str, str],
        *,
        data_dir: str | Path | None = None,
        host: str | None = None,
        port: int | None = None,
        role: str | None = None,
        workers: int | None = None,
        database_url: str | None = None,
        log_level: str | None = None,
    ) -> Settings:
        """Build settings from the environment `env` and from flags (None: not given); a flag wins.

        An empty variable counts as absent. Raises TrimtabError (INVALID_SETTING) naming the setting.
        """

        def variable(name: str) -> str | None:
            return env.get(name) or None

        return cls(
            data_dir=Path(data_dir or variable("TRIMTAB_DATA_DIR") or ".trimtab").expanduser().absolute(),
            host=_host(host),
            port=_integer("port", "--port", port, 8700, 0, 65535),
            role=_role(role or "all"),
            workers=_integer("workers", "--workers", workers, 1, 1, MAX_WORKERS),
            database_url=_database_url(
                "database_url",
                "--database-url" if database_url else "TRIMTAB_DATABASE_URL",
                database_url or variable("TRIMTAB_DATABASE_URL"),
            ),
            database_owner_url=_database_url(
                "database_owner_url", "TRIMTAB_DATABASE_OWNER_URL", variable("TRIMTAB_DATABASE_OWNER_URL")
            ),
            database_replica_url=_database_url(
                "database_replica_url",
                "TRIMTAB_DATABASE_REPLICA_URL",
                variable("TRIMTAB_DATABASE_REPLICA_URL"),
            ),
            admin_key=_admin_key(variable("TRIMTAB_ADMIN_KEY")),
            secret_key=_secret_key(variable("TRIMTAB_SECRET_KEY")),
            webhook_private_targets=_allow(
                "webhook_private_targets",
                "TRIMTAB_WEBHOOK_PRIVATE_TARGETS",
                variable("TRIMTAB_WEBHOOK_PRIVATE_TARGETS"),
            ),
            drain_seconds=_seconds("drain_seconds", "TRIMTAB_DRAIN_SECONDS", variable("TRIMTAB_DRAIN_SECONDS"), 30.0),
            log_level=_log_level(log_level or variable("TRIMTAB_LOG_LEVEL") or "info"),
        )


def check_secret_key(value: str, source: str) -> str:
    """Return `value`, one or several Fernet keys with commas between, without blanks; `source` says whence.

    Raises TrimtabError (INVALID_SETTING); the key itself is never part of the message.
    """
    keys = [key.strip() for key in value.split(",") if key.strip()]
    if not keys:
        raise _invalid("secret_key", f"{source} holds no key; put one or several Fernet keys there")
    for number, key in enumerate(keys, 1):
        try:
            Fernet(key)
        except ValueError:
            raise _invalid(
                "secret_key",
                f"key {number} in {source} is no Fernet key (32 random bytes as URL-safe base64); "
                "make one with `openssl rand -base64 32 | tr +/ -_`",
            ) from None
    return ",".join(keys)


def _invalid(name: str, detail: str) -> TrimtabError:
    return TrimtabError(Code.INVALID_SETTING, detail, field=name)


def _host(value: str | None) -> str:
    if value is None:
        return "127.0.0.1"
    if not value.strip() or any(c.isspace() or c == "/" for c in value):
        raise _invalid("host", f"--host is {value!r}; give an address such as 127.0.0.1 or 0.0.0.0")
    return value


def _integer(name: str, source: str, value: int | None, default: int, low: int, high: int) -> int:
    if value is None:
        return default
    if not low <= value <= high:
        raise _invalid(name, f"{source} is {value}; it must be from {low} to {high}")
    return value


def _role(value: str) -> Role:
    for role in get_args(Role):
        if value == role:
            return role  # type: ignore[no-any-return]
    raise _invalid("role", f"--role is {value!r}; it must be one of {', '.join(get_args(Role))}")


def _log_level(value: str) -> LogLevel:
    for level in get_args(LogLevel):
        if value.lower() == level:
            return level  # type: ignore[no-any-return]
    raise _invalid("log_level", f"the log level is {value!r}; it must be one of {', '.join(get_args(LogLevel))}")


def _database_url(name: str, source: str, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("postgresql", "postgres"):
        # The value may hold a password, so the message does not repeat it.
        raise _invalid(name, f"{source} must look like postgresql://user:password@host:5432/database")
    return value


def _admin_key(value: str | None) -> str | None:
    if value is None:
        return None
    if len(value) < 16 or not value.isascii() or not value.isprintable() or " " in value:
        raise _invalid("admin_key", "TRIMTAB_ADMIN_KEY needs 16 or more printable ASCII characters, no blank")
    return value


def _secret_key(value: str | None) -> str | None:
    return None if value is None else check_secret_key(value, "TRIMTAB_SECRET_KEY")


def _allow(name: str, source: str, value: str | None) -> bool:
    if value in (None, "deny"):
        return False
    if value == "allow":
        return True
    raise _invalid(name, f"{source} is {value!r}; it must be allow or deny")


def _seconds(name: str, source: str, value: str | None, default: float) -> float:
    if value is None:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise _invalid(name, f"{source} is {value!r}; it must be a number of seconds from 0 to 3600")
    return seconds


def without_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` without the program's own variables: children get settings through their context, and what they
    start in turn must not inherit secrets."""
    return {name: value for name, value in env.items() if not name.startswith("TRIMTAB_")}
