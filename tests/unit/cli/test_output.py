"""How values look to people, and how results look to programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from trimtab.cli import output
from trimtab.cli.failure import Failure


class Thing(BaseModel):
    id: UUID
    at: datetime
    cost: Decimal


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "-"),
        ("0", "$0"),
        ("0.000000000", "$0"),
        ("1234.5", "$1,234.50"),
        ("1", "$1.00"),
        ("0.25", "$0.25"),
        ("0.000012345", "$0.000012"),
        ("0.0000000004", "$0.00000000040"),
        ("-0.5", "$-0.50"),
    ],
)
def test_money(amount: str | None, shown: str) -> None:
    assert output.usd(amount) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0.4, "0.4 ms"), (9.96, "10.0 ms"), (42.4, "42 ms"), (999, "999 ms"), (1500, "1.50 s")],
)
def test_durations(value: float | None, shown: str) -> None:
    assert output.milliseconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (3, "3"), (12345, "12,345"), (0.12345, "0.123"), (42.42, "42.4"), (1e4 + 0.5, "10,000")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert output.number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0.0, "0 %"), (0.015, "1.5 %"), (1.0, "100 %")])
def test_percentages(value: float | None, shown: str) -> None:
    assert output.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC), "2026-05-01 12:00:01Z"),
        (Decimal("100.00"), "100"),
        ({"a": 1, "b": None}, "a=1, b=-"),
        ([], "-"),
        (["x", "y"], "x, y"),
    ],
)
def test_cells(value: Any, shown: str) -> None:
    assert output.cell(value) == shown


def test_results_become_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    thing = Thing(id=UUID(int=1), at=datetime(2026, 5, 1, tzinfo=UTC), cost=Decimal("0.10"))
    output.print_json({"items": [thing], "next": None})
    assert json.loads(capsys.readouterr().out) == {
        "items": [{"id": "00000000-0000-0000-0000-000000000001", "at": "2026-05-01T00:00:00Z", "cost": "0.10"}],
        "next": None,
    }


def test_tables_show_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["name"], [["[bold]x[/bold]"]], empty="none")
    assert "[bold]x[/bold]" in capsys.readouterr().out


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["name"], [], empty="no models yet")
    assert capsys.readouterr().out == "no models yet\n"


def test_a_failure_is_one_line() -> None:
    assert Failure("it is\n  wrong", "some_code", "name").line() == "error: name: it is wrong (some_code)"
    assert Failure("`name` is wrong", "some_code", "name").line() == "error: `name` is wrong (some_code)"
