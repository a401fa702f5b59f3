"""What commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NOTHING = "-"
LONGEST_CELL = 120
"""Characters of a table's cell; the rest is cut off for people, `--json` has all."""

WIDE = 100_000
"""Tables take the width that they need; a narrow terminal wraps lines, which keeps ids in one piece."""


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console for people; it obeys NO_COLOR and writes plain text into pipes."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


def print_json(document: Any) -> None:
    """Write `document` (results, lists and mappings of them) as one JSON document."""
    sys.stdout.write(json.dumps(plain(document), indent=2, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """`value` as JSON knows it."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str, right: Iterable[str] = ()
) -> None:
    """Write rows under their headings, or the line `empty`; the columns named in `right` are numbers."""
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        console().print(empty, markup=False)
        return
    numeric = set(right)
    table = _grid(show_header=True)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", no_wrap=True)
    for row in cells:
        table.add_row(*(styled(_cut(text)) for text in row))
    _print_wide(table)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Write names and values below each other."""
    table = _grid(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, value in fields:
        table.add_row(styled(name), styled(cell(value)))
    _print_wide(table)


def _grid(*, show_header: bool) -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=show_header, header_style="bold")


def _print_wide(table: Table) -> None:
    """Print without the blanks that rich puts at the ends of lines."""
    wide = console(width=WIDE)
    with wide.capture() as captured:
        wide.print(table, soft_wrap=False)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 3] + "..."


STYLES = {
    "healthy": "green",
    "approved": "green",
    "ready": "green",
    "ok": "green",
    "conditional": "yellow",
    "pending": "yellow",
    "deploying": "yellow",
    "starting": "yellow",
    "degraded": "yellow",
    "unhealthy": "red",
    "failed": "red",
    "rejected": "red",
}


def styled(text: str) -> Any:
    """`text`, in colour where it is a state."""
    from rich.text import Text

    return Text(text, style=STYLES.get(text, ""))


def cell(value: Any) -> str:
    """A value as people read it."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={cell(member)}" for name, member in value.items()) or NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(cell(member) for member in value) or NOTHING
    return str(value)


def number(value: float | int | None) -> str:
    """A number with as many digits as say something."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}"


def milliseconds(value: float | None) -> str:
    """A duration in milliseconds, as milliseconds or seconds."""
    if value is None:
        return NOTHING
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def usd(value: Decimal | str | float | None) -> str:
    """Money with its sign; small sums keep two digits that say something."""
    if value is None:
        return NOTHING
    amount = Decimal(str(value))
    if amount == 0:
        return "$0"
    if abs(amount) >= 1:
        return f"${amount:,.2f}"
    # Two significant digits, without an exponent.
    return f"${amount.quantize(Decimal(1).scaleb(amount.adjusted() - 1)):f}"


def percent(value: float | None) -> str:
    """A fraction as percentage."""
    return NOTHING if value is None else f"{value * 100:.2f}".rstrip("0").rstrip(".") + " %"
