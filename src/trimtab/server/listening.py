"""The listening socket, bound by the supervisor so that a taken port is found before anything has started."""

from __future__ import annotations

import errno
import socket

from trimtab.errors import Code, TrimtabError

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Return a TCP socket that listens on `host` and `port` (0: any).

    Raises TrimtabError (PORT_IN_USE, INVALID_SETTING).
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise TrimtabError(Code.INVALID_SETTING, f"--host {host} is no address of this machine", field="host") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Listening at once, for until then another program could still bind the same port.
        listener.listen(_BACKLOG)
        return listener
    except OSError as error:
        listener.close()
        raise _refusal(error, host, port) from None


def _refusal(error: OSError, host: str, port: int) -> TrimtabError:
    if error.errno == errno.EADDRINUSE:
        return TrimtabError(
            Code.PORT_IN_USE,
            f"port {port} on {host} is taken by another program; stop it or choose another with --port",
            field="port",
        )
    if error.errno == errno.EACCES:
        return TrimtabError(
            Code.INVALID_SETTING,
            f"this user may not listen on port {port}; choose one above 1023 with --port",
            field="port",
        )
    return TrimtabError(Code.INVALID_SETTING, f"cannot listen on {host} port {port}: {error.strerror}", field="host")
