"""Where the client finds its server: arguments, else the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from trimtab.client.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8700"


@dataclass(frozen=True, slots=True)
class Config:
    """What a client needs to know.

    Parameters:
        url: base URL of the server, without a slash at its end.
        api_key: sent as bearer token; None sends none.
        timeout: seconds that one attempt may take.
        retries: how often a call that may be repeated is repeated.
    """

    url: str
    api_key: str | None = field(repr=False)
    timeout: float = 30.0
    retries: int = 3

    @property
    def local(self) -> bool:
        """Whether the server is on this machine, where no proxy must be asked."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def resolve(
    url: str | None,
    api_key: str | None,
    timeout: float,
    retries: int,
    env: Mapping[str, str] = os.environ,
) -> Config:
    """Fill in what was not given from TRIMTAB_URL and TRIMTAB_API_KEY; an empty variable counts as absent.

    Raises ConfigurationError for a URL that is none, and for values that no header or clock can hold.
    """
    chosen = (url or env.get("TRIMTAB_URL") or DEFAULT_URL).strip().rstrip("/")
    try:
        parts = urlsplit(chosen)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(f"the server's address {chosen!r} is no URL; give one such as {DEFAULT_URL}", "url")
    key = (api_key or env.get("TRIMTAB_API_KEY") or "").strip() or None
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ConfigurationError("the API key holds characters that no key has; copy it anew", "api_key")
    if timeout <= 0 or retries < 0:
        raise ConfigurationError("timeout must be above 0 and retries 0 or more", "timeout")
    return Config(chosen, key, timeout, retries)
