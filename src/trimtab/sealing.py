"""Sealing of secrets that are kept in the database or in the snapshot: authenticated encryption, rotatable keys."""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from trimtab.errors import Code, TrimtabError


class Sealer:
    """Seals with the first of its keys, unseals with any.

    Parameters:
        keys: Fernet keys, separated by commas, as in `Settings.secret_key`.
    """

    def __init__(self, keys: str) -> None:
        self._keys = keys.split(",")
        self._fernet = MultiFernet([Fernet(key) for key in self._keys])

    def seal(self, content: bytes) -> bytes:
        """Return `content` sealed, as URL-safe ASCII."""
        return self._fernet.encrypt(content)

    def unseal(self, sealed: bytes) -> bytes:
        """Return what was sealed. Raises TrimtabError (SEALED_BY_ANOTHER) where no key fits or it was changed."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise TrimtabError(
                Code.SEALED_BY_ANOTHER,
                "a stored secret was sealed with another key, or was damaged; "
                "add the key it was sealed with to TRIMTAB_SECRET_KEY, or store the secret anew",
            ) from None

    def seal_text(self, text: str) -> str:
        """Return `text` sealed."""
        return self.seal(text.encode()).decode("ascii")

    def unseal_text(self, sealed: str) -> str:
        """Return the text that was sealed. Raises TrimtabError (SEALED_BY_ANOTHER)."""
        return self.unseal(sealed.encode()).decode()

    def fingerprints(self) -> list[str]:
        """Fingerprints of the keys, the sealing one first."""
        return [key_fingerprint(key) for key in self._keys]


def key_fingerprint(key: str) -> str:
    """Return what tells one Fernet key from another without disclosing it: 16 hexadecimal digits."""
    return hashlib.sha256(b"trimtab sealing key" + base64.urlsafe_b64decode(key)).hexdigest()[:16]
