"""Serves the built dashboard out of the package.

All files (about a megabyte) are read once, when the application is made. A request is answered from that table
alone: no path of a request ever reaches the file system, and no disk is waited for beside the gateway's traffic.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

STATIC_FOLDER = Path(__file__).parent / "static"

# The build writes this word wherever a page needs the nonce of its content security policy.
_NONCE_MARK = b"__CSP_NONCE__"
_CONTENT_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".gif": b"image/gif",
    ".html": b"text/html; charset=utf-8",
    ".ico": b"image/x-icon",
    ".jpg": b"image/jpeg",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
    ".webmanifest": b"application/manifest+json",
    ".woff2": b"font/woff2",
}
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_NOT_BUILT = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Trimtab: dashboard not built</title></head>
<body><h1>The dashboard is not built</h1>
<p>The server is running; its REST interface is at <a href="/api/openapi.json">/api/openapi.json</a>.</p>
<p>In a clone of the project, run <code>make dashboard</code> and start the server again. An installation made
with <code>pip install</code> contains the dashboard; if you see this page there, install it anew.</p>
</body></html>
"""

_Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    gzipped: bytes | None
    content_type: bytes
    cache_control: bytes
    etag: bytes


class DashboardFiles:
    """ASGI application of the dashboard, for every path that no API claims.

    A path without a file extension is a place inside the single-page application and gets its page; a path with
    one is a file or a 404. `folder` holds the built files; where it has none, every page says how to build them.
    """

    def __init__(self, folder: Path = STATIC_FOLDER) -> None:
        page = folder / "index.html"
        built = page.is_file()
        self._page = page.read_bytes() if built else _NOT_BUILT
        self._page_status = 200 if built else 503
        self._files = _load(folder) if built else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the dashboard serves HTTP only, not {scope['type']}")
        status, headers, body = self._answer(scope)
        headers.extend(_SECURITY_HEADERS)
        if status != 304:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _answer(self, scope: Scope) -> tuple[int, _Headers, bytes]:
        if scope["method"] not in ("GET", "HEAD"):
            return 405, [(b"allow", b"GET, HEAD"), *_plain()], b"The dashboard answers GET and HEAD only.\n"
        path: str = scope["path"]
        file = self._files.get(path)
        if file is not None:
            return _serve(file, dict(scope["headers"]))
        if "." in path.rpartition("/")[2] and path != "/index.html":
            return 404, _plain(), b"There is no such file.\n"
        return self._serve_page()

    def _serve_page(self) -> tuple[int, _Headers, bytes]:
        nonce = secrets.token_urlsafe(18).encode()
        headers = [
            (b"content-type", _CONTENT_TYPES[".html"]),
            (b"cache-control", b"no-cache"),
            (b"content-security-policy", _policy(nonce)),
        ]
        return self._page_status, headers, self._page.replace(_NONCE_MARK, nonce)


def _policy(nonce: bytes) -> bytes:
    # Style elements are made at run time by the component library, each carrying the page's nonce.
    return (
        b"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-" + nonce + b"'; img-src 'self'; "
        b"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'"
    )


def _serve(file: _File, request: dict[bytes, bytes]) -> tuple[int, _Headers, bytes]:
    headers: _Headers = [(b"cache-control", file.cache_control), (b"etag", file.etag)]
    if file.gzipped is not None:
        headers.append((b"vary", b"accept-encoding"))
    if file.etag in re.split(rb"\s*,\s*", request.get(b"if-none-match", b"").strip()):
        return 304, headers, b""
    headers.append((b"content-type", file.content_type))
    if file.content_type == _CONTENT_TYPES[".svg"]:
        # An SVG can carry scripts, which would run when it is opened by itself.
        headers.append((b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; sandbox"))
    if file.gzipped is not None and _accepts_gzip(request.get(b"accept-encoding", b"")):
        headers.append((b"content-encoding", b"gzip"))
        return 200, headers, file.gzipped
    return 200, headers, file.body


def _accepts_gzip(header: bytes) -> bool:
    for entry in header.lower().split(b","):
        coding, _, parameters = entry.partition(b";")
        if coding.strip() in (b"gzip", b"*"):
            return re.fullmatch(rb"\s*q\s*=\s*0(\.0*)?\s*", parameters) is None
    return False


def _load(folder: Path) -> dict[str, _File]:
    files: dict[str, _File] = {}
    for path in sorted(folder.rglob("*")):
        content_type = _CONTENT_TYPES.get(path.suffix)
        if content_type is None or path.name == "index.html" or not path.is_file():
            continue
        body = path.read_bytes()
        gzipped = path.with_name(path.name + ".gz")
        address = "/" + path.relative_to(folder).as_posix()
        # The build names every asset after a hash of its content, so that its address never changes meaning.
        lasting = address.startswith("/assets/")
        files[address] = _File(
            body=body,
            gzipped=gzipped.read_bytes() if gzipped.is_file() else None,
            content_type=content_type,
            cache_control=b"public, max-age=31536000, immutable" if lasting else b"no-cache",
            etag=b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"',
        )
    return files


def _plain() -> _Headers:
    return [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
