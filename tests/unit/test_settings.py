"""Settings: what wins, what is refused, and that refusals name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from trimtab.context import PartContext
from trimtab.errors import Code, TrimtabError
from trimtab.server.parts import PARTS
from trimtab.settings import Settings, without_settings

KEY = Fernet.generate_key().decode()
URL = "postgresql://app:secret@db:5432/trimtab"


def test_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings(data_dir=Path(".trimtab").absolute())
    assert (settings.host, settings.port, settings.role, settings.workers) == ("127.0.0.1", 8700, "all", 1)


def test_everything_from_the_environment() -> None:
    settings = Settings.from_env(
        {
            "TRIMTAB_DATA_DIR": "/data",
            "TRIMTAB_DATABASE_URL": URL,
            "TRIMTAB_DATABASE_OWNER_URL": URL + "?owner",
            "TRIMTAB_DATABASE_REPLICA_URL": URL + "?replica",
            "TRIMTAB_ADMIN_KEY": "tt_" + "a" * 20,
            "TRIMTAB_SECRET_KEY": f" {KEY} , {KEY}",
            "TRIMTAB_WEBHOOK_PRIVATE_TARGETS": "allow",
            "TRIMTAB_DRAIN_SECONDS": "2.5",
            "TRIMTAB_LOG_LEVEL": "DEBUG",
            "HOME": "/root",
        }
    )
    assert settings == Settings(
        data_dir=Path("/data"),
        database_url=URL,
        database_owner_url=URL + "?owner",
        database_replica_url=URL + "?replica",
        admin_key="tt_" + "a" * 20,
        secret_key=f"{KEY},{KEY}",
        webhook_private_targets=True,
        drain_seconds=2.5,
        log_level="debug",
    )
    assert "secret" not in repr(settings).replace("secret_key", "")
    assert KEY not in repr(settings)


def test_flags_win() -> None:
    env = {"TRIMTAB_DATA_DIR": "/one", "TRIMTAB_DATABASE_URL": URL}
    settings = Settings.from_env(env, data_dir="/two", database_url=URL + "?flag", port=0, role="api", workers=3)
    assert settings == Settings(Path("/two"), port=0, role="api", workers=3, database_url=URL + "?flag")


def test_empty_variable_is_absent() -> None:
    assert Settings.from_env({"TRIMTAB_DATABASE_URL": "", "TRIMTAB_SECRET_KEY": ""}) == Settings.from_env({})


@pytest.mark.parametrize(
    ("env", "flags", "field", "says"),
    [
        ({}, {"port": 65536}, "port", "--port is 65536; it must be from 0 to 65535"),
        ({}, {"workers": 0}, "workers", "--workers is 0"),
        ({}, {"role": "both"}, "role", "all, gateway, api, controller"),
        ({}, {"host": " "}, "host", "127.0.0.1"),
        ({}, {"log_level": "loud"}, "log_level", "debug, info, warning, error"),
        ({}, {"database_url": "mysql://u:secret@h/d"}, "database_url", "--database-url must look like"),
        ({"TRIMTAB_DATABASE_URL": "u:secret@h"}, {}, "database_url", "TRIMTAB_DATABASE_URL must look like"),
        ({"TRIMTAB_DATABASE_REPLICA_URL": "//["}, {}, "database_replica_url", "TRIMTAB_DATABASE_REPLICA_URL"),
        ({"TRIMTAB_ADMIN_KEY": "short-secret"}, {}, "admin_key", "16 or more"),
        ({"TRIMTAB_SECRET_KEY": f"{KEY},secret"}, {}, "secret_key", "key 2 in TRIMTAB_SECRET_KEY"),
        ({"TRIMTAB_SECRET_KEY": " , "}, {}, "secret_key", "holds no key"),
        ({"TRIMTAB_WEBHOOK_PRIVATE_TARGETS": "yes"}, {}, "webhook_private_targets", "allow or deny"),
        ({"TRIMTAB_DRAIN_SECONDS": "nan"}, {}, "drain_seconds", "0 to 3600"),
        ({"TRIMTAB_DRAIN_SECONDS": "long"}, {}, "drain_seconds", "0 to 3600"),
    ],
)
def test_refusals(env: dict[str, str], flags: dict[str, str | int], field: str, says: str) -> None:
    with pytest.raises(TrimtabError) as refusal:
        Settings.from_env(env, **flags)  # type: ignore[arg-type]
    assert refusal.value.code is Code.INVALID_SETTING
    assert refusal.value.field == field
    assert says in refusal.value.detail
    assert "secret@" not in refusal.value.detail
    assert "short-secret" not in refusal.value.detail
    assert KEY not in refusal.value.detail


def test_children_inherit_no_setting() -> None:
    assert without_settings({"PATH": "/bin", "TRIMTAB_ADMIN_KEY": "x", "TRIMTAB_ANYTHING": "y"}) == {"PATH": "/bin"}


def test_context_survives_its_journey() -> None:
    settings = Settings(Path("/data"), secret_key=KEY, workers=2, drain_seconds=1.5, database_url=URL)
    for listen_fd in (None, 5):
        context = PartContext("web-1", "a.b:run", settings, URL, Path("/data"), 1, listen_fd, 6, 7, 8)
        assert PartContext.decode(context.encode()) == context
        assert PartContext.decode(context.with_ready_fd(9).encode()).ready_fd == 9


def test_parts_of_each_role() -> None:
    parts = {
        role: [part.name for part in PARTS if role in part.roles] for role in ("all", "gateway", "api", "controller")
    }
    assert parts == {
        "all": ["web", "shipper", "controller", "runner"],
        "gateway": ["web", "shipper"],
        "api": ["web"],
        "controller": ["controller", "runner"],
    }
