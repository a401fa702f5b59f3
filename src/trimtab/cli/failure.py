"""How a command ends badly: one line on the error output and an exit status, never a traceback."""

from __future__ import annotations

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Failure(Exception):  # noqa: N818 - an outcome, shown to the user as `error: ...`
    """A command cannot do what was asked.

    Parameters:
        message: what is wrong and what to do about it.
        code: stable, for scripts.
        field: the input at fault, where one is known.
        status: of the process.
        problem: the server's problem document, where it sent one.
    """

    def __init__(
        self,
        message: str,
        code: str,
        field: str | None = None,
        status: int = EXIT_FAILED,
        problem: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field
        self.status = status
        self.problem = problem

    def line(self) -> str:
        """The one line that the user sees."""
        message = " ".join(self.message.split())
        where = f"{self.field}: " if self.field and self.field not in message else ""
        return f"error: {where}{message} ({self.code})"
