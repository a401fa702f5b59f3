"""`trimtab keys`, `providers`, `audit`, `whoami`."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from trimtab.cli import output
from trimtab.cli.failure import EXIT_USAGE, Failure
from trimtab.cli.find import is_id
from trimtab.cli.models import Limit
from trimtab.cli.session import Session, with_session
from trimtab.cli.values import confirm, duration, secret

keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="API keys.")
providers = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Credentials kept for model endpoints.")


@keys.command("list")
@with_session
def list_keys(session: Session, limit: Limit = 50) -> None:
    """List API keys, newest first."""
    session.table(
        islice(session.client.api_keys.list(limit=min(limit, 200)), limit),
        [
            ("NAME", lambda key: key.name),
            ("MEMBER", lambda key: key.member_name),
            ("ROLE", lambda key: key.role),
            ("SCOPES", lambda key: key.scopes),
            ("KEY", lambda key: key.hint),
            ("CREATED", lambda key: key.created_at),
            ("EXPIRES", lambda key: key.expires_at),
            ("REVOKED", lambda key: key.revoked_at),
            ("ID", lambda key: key.id),
        ],
        empty="no API keys",
    )


@keys.command("create")
@with_session
def create_key(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")] = "viewer",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="control, inference, or both (the option twice). [default: both]"),
    ] = None,
    member: Annotated[str | None, typer.Option(help="Whom it is for. [default: a member of its own]")] = None,
    expires_in: Annotated[str | None, typer.Option("--expires-in", help="Such as 90d. [default: never]")] = None,
) -> None:
    """Make an API key; it is shown this once."""
    expires_at = datetime.now(UTC) + duration(expires_in, "--expires-in") if expires_in else None
    made = session.client.api_keys.create(name, role=role, scopes=scope, member=member, expires_at=expires_at)

    def people() -> None:
        # The key alone on standard output, so that it can be taken into a variable.
        typer.echo(made.key)
        typer.echo(f"key {made.name!r} ({made.role}; {', '.join(made.scopes)}); it is shown this once", err=True)

    session.show(made, people)


@keys.command("revoke")
@with_session
def revoke_key(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id or name of an API key.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Make an API key useless, for good."""
    if is_id(key):
        found = session.client.api_keys.get(key)
    else:
        live = [item for item in session.client.api_keys.list() if item.name == key and item.revoked_at is None]
        if len(live) != 1:
            what = "no key that works" if not live else f"{len(live)} keys"
            raise Failure(f"there is {what} of the name {key!r}; give its id", "not_found", status=EXIT_USAGE)
        found = live[0]
    confirm(f"Revoke the key {found.name!r} ({found.hint}) for good?", yes)
    done = session.client.api_keys.revoke(found.id)
    session.show(done, lambda: session.say(f"revoked {done.name!r} ({done.hint})"))


@providers.command("list")
@with_session
def list_providers(session: Session, limit: Limit = 50) -> None:
    """List the credentials that are kept, newest first."""
    session.table(
        islice(session.client.providers.list(limit=min(limit, 200)), limit),
        [
            ("NAME", lambda item: item.name),
            ("PROVIDER", lambda item: item.provider),
            ("KEY", lambda item: item.hint),
            ("CREATED", lambda item: item.created_at),
            ("ID", lambda item: item.id),
        ],
        empty="no credentials are kept",
    )


@providers.command("create")
@with_session
def create_provider(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    provider: Annotated[str, typer.Option(help="openai, anthropic, ...")],
    credential: Annotated[str, typer.Option(help="The key; `-` reads it from standard input.")] = "-",
) -> None:
    """Keep a provider's credential, sealed."""
    made = session.client.providers.create(name, provider, secret(credential) or "")
    session.show(made, lambda: session.say(f"kept {made.name!r} ({made.hint}, {made.id})"))


@providers.command("delete")
@with_session
def delete_provider(
    session: Session,
    provider: Annotated[str, typer.Argument(metavar="ID", help="Id of the credential.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a credential that no version uses."""
    confirm(f"Delete the credential {provider}?", yes)
    session.client.providers.delete(provider)
    session.show({"deleted": provider}, lambda: session.say(f"deleted {provider}"))


@with_session
def audit(
    session: Session,
    actor: Annotated[str | None, typer.Option(help="Only what this one did (name or id).")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as lifecycle.approve.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="Only what was done to this id.")] = None,
    last: Annotated[str | None, typer.Option(help="Only the last while, such as 24h.")] = None,
    limit: Limit = 50,
) -> None:
    """Show what was done, by whom, newest first."""
    start = datetime.now(UTC) - duration(last, "--last") if last else None
    found = session.client.audit_log.list(
        actor=actor, action=action, object_id=object_id, start=start, limit=min(limit, 200)
    )
    session.table(
        islice(found, limit),
        [
            ("AT", lambda entry: entry.at),
            ("BY", lambda entry: entry.actor_name),
            ("ACTION", lambda entry: entry.action),
            ("OBJECT", lambda entry: f"{entry.object_type} {entry.object_id}"),
            ("DETAILS", lambda entry: entry.details),
        ],
        empty="nothing was done",
    )


@with_session
def whoami(session: Session) -> None:
    """Show whose key this is, and what it may do."""
    found = session.client.session.get()
    session.show(
        found,
        lambda: output.print_fields(
            [
                ("name", found.member_name),
                ("role", found.role),
                ("scopes", found.scopes),
                ("workspace", found.workspace_name),
            ]
        ),
    )
