"""Sealing: what was sealed comes back, with old keys too, and never with another's."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import Code, TrimtabError
from trimtab.sealing import Sealer, key_fingerprint

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


@given(st.binary())
def test_bytes_come_back(content: bytes) -> None:
    assert Sealer(OLD).unseal(Sealer(OLD).seal(content)) == content


@given(st.text())
def test_text_comes_back(text: str) -> None:
    sealed = Sealer(OLD).seal_text(text)
    assert sealed.isascii()
    assert Sealer(f"{NEW},{OLD}").unseal_text(sealed) == text


def test_first_key_seals() -> None:
    assert Sealer(NEW).unseal(Sealer(f"{NEW},{OLD}").seal(b"x")) == b"x"


@pytest.mark.parametrize("sealed", [Sealer(OLD).seal(b"x"), b"", b"rubbish", Sealer(NEW).seal(b"x")[:-8] + b"AAAAAAA="])
def test_others_are_refused(sealed: bytes) -> None:
    with pytest.raises(TrimtabError, match="another key") as refusal:
        Sealer(NEW).unseal(sealed)
    assert refusal.value.code is Code.SEALED_BY_ANOTHER


def test_fingerprints_tell_keys_apart_and_tell_nothing_else() -> None:
    assert Sealer(f"{NEW},{OLD}").fingerprints() == [key_fingerprint(NEW), key_fingerprint(OLD)]
    assert key_fingerprint(NEW) != key_fingerprint(OLD)
    assert len(key_fingerprint(NEW)) == 16
