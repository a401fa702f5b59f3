"""The synchronous client is what its generator makes of the asynchronous one."""

from __future__ import annotations

from tools import unasync


def test_generated_files_are_up_to_date() -> None:
    present = {path: path.read_text(encoding="utf-8") for path in unasync.TARGET.rglob("*.py")}
    assert present == unasync.generate(), "run `python -m tools.unasync`"


def test_what_is_awaited_is_called() -> None:
    source = 'async with AsyncThing() as thing:\n    await thing.aclose()  # "await"\n'
    assert unasync.convert(source) == 'with Thing() as thing:\n    thing.close()  # "await"\n'


def test_texts_other_than_documentation_stay() -> None:
    assert unasync.convert('x = "await AsyncThing"\n') == 'x = "await AsyncThing"\n'
