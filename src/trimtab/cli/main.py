"""The command line: puts the commands together and ends them in one way."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from trimtab.cli import access, deployments, models, serve, usage, versions
from trimtab.cli.failure import EXIT_INTERRUPTED, Failure


def build() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="trimtab",
        help="AI model management: models move through their life, traffic moves between them, on evidence.",
        no_args_is_help=True,
        # Plain help: at once there, and brackets in it stay what they are.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(common)
    app.command("serve")(serve.serve)
    app.add_typer(serve.db, name="db")
    app.command("status")(usage.status)
    app.add_typer(models.app, name="models")
    app.add_typer(versions.app, name="versions")
    app.add_typer(versions.app, name="lifecycles", hidden=True)
    app.command("deploy")(deployments.deploy)
    app.command("rollback")(deployments.rollback)
    app.add_typer(deployments.app, name="deployments")
    app.command("metrics")(deployments.metrics)
    app.command("usage")(usage.usage)
    app.add_typer(usage.requests, name="requests")
    app.add_typer(access.keys, name="keys")
    app.add_typer(access.providers, name="providers")
    app.command("audit")(access.audit)
    app.command("whoami")(access.whoami)
    return app


def show_version(wanted: bool) -> None:
    """Print the version and end, if that is wanted."""
    if wanted:
        import trimtab

        typer.echo(f"trimtab {trimtab.__version__}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Print the version and end.")
    ] = False,
) -> None:
    """AI model management: models move through their life, traffic moves between them, on evidence."""


def main() -> None:
    """Run the command line with the process's arguments and end the process."""
    try:
        build()()
    except Failure as failure:
        sys.stderr.write(failure.line() + "\n")
        sys.exit(failure.status)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has had enough (`| head`); flushing at exit must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
