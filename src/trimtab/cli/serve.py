"""`trimtab serve` and `trimtab db`: what runs on the server's own machine, without a client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.failure import EXIT_USAGE, Failure
from trimtab.cli.output import print_json

if TYPE_CHECKING:
    from trimtab.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where everything is kept [env: TRIMTAB_DATA_DIR] [default: .trimtab]", show_default=False
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url", help="Your own PostgreSQL [env: TRIMTAB_DATABASE_URL] [default: embedded]", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

db = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The database of a server on this machine.")


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 chooses a free one. [default: 8700]")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    role: Annotated[str | None, typer.Option(help="all, gateway, api or controller. [default: all]")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of web worker processes. [default: 1]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [default: info]")] = None,
) -> None:
    """Run a server until it is told to stop (Ctrl-C or SIGTERM)."""
    with failures(EXIT_USAGE):
        from trimtab.server.supervisor import run
        from trimtab.settings import Settings

        settings = Settings.from_env(
            os.environ,
            data_dir=data_dir,
            host=host,
            port=port,
            role=role,
            workers=workers,
            database_url=database_url,
            log_level=log_level,
        )
        raise typer.Exit(run(settings))


@db.command("url")
def url(
    owner: Annotated[bool, typer.Option("--owner", help="As the owner of the schema, not as the program.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Print the connection string of the application role, or of the owner."""
    with failures():
        chosen = _url(owner, data_dir, database_url)
        if as_json:
            print_json({"url": chosen, "role": "owner" if owner else "application"})
        else:
            typer.echo(chosen)


@db.command("migrate")
def migrate(data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Bring the database to this program's schema; a server does so by itself when it starts."""
    with failures():
        from trimtab.db.migrate import migrate as apply

        applied = apply(_url(True, data_dir, database_url))
        if as_json:
            print_json({"applied": applied})
        elif applied:
            typer.echo(f"applied {len(applied)}: {', '.join(applied)}")
        else:
            typer.echo("nothing to do: the database has this program's schema")


def _url(owner: bool, data_dir: Path | None, database_url: str | None) -> str:
    from trimtab.settings import Settings

    settings = Settings.from_env(os.environ, data_dir=data_dir, database_url=database_url)
    if settings.database_url is not None:
        if owner or settings.database_owner_url is not None:
            return (settings.database_owner_url or settings.database_url) if owner else settings.database_url
        return _application_url(settings)
    from trimtab.db.embedded import read_urls

    urls = read_urls(settings.data_dir)
    return urls.owner if owner else urls.app


def _application_url(settings: Settings) -> str:
    """What a server that is given `settings.database_url` lets its parts use."""
    from trimtab.db.app_role import application_url
    from trimtab.errors import Code, TrimtabError
    from trimtab.sealing import Sealer
    from trimtab.server.secrets import find_secret_key

    assert settings.database_url is not None
    key = find_secret_key(settings)
    if key is None:
        raise TrimtabError(
            Code.INVALID_SETTING,
            f"there is no secret key in {settings.data_dir}; name the server's --data-dir or set TRIMTAB_SECRET_KEY",
            field="secret_key",
        )
    return application_url(settings.database_url, Sealer(key))


@contextmanager
def failures(status: int = 1) -> Iterator[None]:
    """Turn the program's own errors into the line that a command ends with."""
    from trimtab.errors import TrimtabError

    try:
        yield
    except TrimtabError as error:
        # The field is the setting's name; the message already names the flag or variable.
        raise Failure(error.detail, error.code.text, status=status) from error
