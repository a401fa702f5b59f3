"""Asking an HTTP server whether it is there."""

from __future__ import annotations

import asyncio
import socket

import aiohttp

from trimtab.deployments.runtimes import Health

TIMEOUT = aiohttp.ClientTimeout(total=5)


async def get_status(session: aiohttp.ClientSession, url: str) -> int | Health:
    """The HTTP status that a GET of `url` is answered with; a Health that says why where there is no answer.

    No credential is sent and no redirect followed.
    """
    try:
        async with session.get(url, timeout=TIMEOUT, allow_redirects=False) as response:
            return response.status
    except aiohttp.ClientConnectorDNSError as error:
        return Health(False, f"ENDPOINT_UNREACHABLE: the name {error.host} is not known")
    except aiohttp.ClientConnectorCertificateError as error:
        return Health(False, f"ENDPOINT_UNREACHABLE: the certificate of {error.host} is not valid")
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, socket.gaierror):
            return Health(False, f"ENDPOINT_UNREACHABLE: the name {error.host} is not known")
        why = "the connection was refused" if isinstance(error.os_error, ConnectionRefusedError) else str(error)
        return Health(False, f"ENDPOINT_UNREACHABLE: {error.host}:{error.port}: {why}")
    except TimeoutError:
        return Health(False, f"ENDPOINT_UNREACHABLE: no answer within {TIMEOUT.total:g} s")
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
        return Health(False, f"ENDPOINT_UNREACHABLE: {type(error).__name__}: {error}")
