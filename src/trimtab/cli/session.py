"""What every command that talks to a server shares: `--json`, `--url`, `--api-key`, the client, and its errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from trimtab.cli import output
from trimtab.cli.failure import Failure

if TYPE_CHECKING:
    from trimtab.client import Trimtab

P = ParamSpec("P")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Url = Annotated[str | None, typer.Option("--url", help="The server's address [env: TRIMTAB_URL].", show_default=False)]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", help="Your API key [env: TRIMTAB_API_KEY].", show_default=False)
]


@dataclass
class Session:
    """One run of a command against a server.

    Parameters:
        json: whether the output is for programs.
        url: of the server; None for the environment's.
        api_key: None for the environment's.
    """

    json: bool
    url: str | None
    api_key: str | None = field(repr=False)

    @cached_property
    def client(self) -> Trimtab:
        """The client, made on first use. Raises ConfigurationError."""
        # Loaded here, so that help and completion do not wait for it.
        from trimtab.client import Trimtab

        # Whoever waits at a terminal would rather be told soon that nothing answers.
        return Trimtab(self.url, api_key=self.api_key, retries=2)

    def show(self, result: Any, people: Callable[[], None]) -> None:
        """Print `result` as JSON, or what `people` prints."""
        if self.json:
            output.print_json(result)
        else:
            people()

    def table(
        self,
        items: Iterable[Any],
        columns: Sequence[tuple[str, Callable[[Any], Any]]],
        *,
        empty: str,
        right: Iterable[str] = (),
    ) -> None:
        """Print a list: each column has a heading and what it shows of an item."""
        found = list(items)
        if self.json:
            output.print_json({"items": found})
            return
        rows = [[value(item) for _, value in columns] for item in found]
        output.print_table([name for name, _ in columns], rows, empty=empty, right=right)

    def say(self, text: str) -> None:
        """Tell people what was done; programs read the document."""
        if not self.json:
            output.console().print(text, markup=False)

    def close(self) -> None:
        """Close the connections, if any were opened."""
        if "client" in self.__dict__:
            self.client.close()


def with_session(command: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Make a command of a function whose first parameter is the session; adds the options that all commands have."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in list(inspect.signature(command).parameters.items())[1:]
    ]

    def run(*, as_json: bool, url: str | None, api_key: str | None, **arguments: Any) -> None:
        from trimtab.client.errors import APIError, ClientError

        session = Session(as_json, url, api_key)
        try:
            command(session, **arguments)  # type: ignore[call-arg]
        except APIError as error:
            raise Failure(error.message, error.code, error.field, problem=error.problem) from error
        except ClientError as error:
            raise Failure(error.message, error.code, error.field) from error
        finally:
            session.close()

    shared = [
        inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json),
        inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
        inspect.Parameter("api_key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ApiKey),
    ]
    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    return run
