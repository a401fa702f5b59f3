"""The dashboard's files over HTTP, and the build hook's refusals."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hatch_build import Dashboard, DashboardError

from trimtab.server.dashboard import DashboardFiles

SCRIPT = b"console.log('built');" * 50


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def request(
    files: DashboardFiles, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> Answer:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    await files(scope, receive, send)
    start, body = sent
    decoded = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], decoded, body["body"])


@pytest.fixture
def files(tmp_path: Path) -> DashboardFiles:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text('<meta nonce="__CSP_NONCE__"><div id="root"></div>')
    (static / "assets" / "app-0a1b.js").write_bytes(SCRIPT)
    (static / "assets" / "app-0a1b.js.gz").write_bytes(gzip.compress(SCRIPT))
    (static / "favicon.svg").write_text("<svg/>")
    (static / ".sources").write_text("digest")
    (tmp_path / "secret.js").write_text("secret")
    return DashboardFiles(static)


@pytest.mark.parametrize("path", ["/", "/index.html", "/deployments", "/deployments/0199/metrics", "/a.b/c"])
async def test_places_inside_the_application_get_its_page(files: DashboardFiles, path: str) -> None:
    answer = await request(files, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-cache"
    assert b'id="root"' in answer.body


async def test_every_page_view_has_its_own_nonce(files: DashboardFiles) -> None:
    first, second = await request(files, "/"), await request(files, "/")
    for answer in (first, second):
        nonce = answer.body.decode().split('nonce="')[1].split('"')[0]
        assert len(nonce) >= 22
        policy = answer.headers["content-security-policy"]
        assert f"'nonce-{nonce}'" in policy
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
    assert first.body != second.body


async def test_assets_are_cached_for_ever_and_sent_compressed(files: DashboardFiles) -> None:
    packed = await request(files, "/assets/app-0a1b.js", headers={"accept-encoding": "br, gzip;q=0.8"})
    assert packed.headers["content-type"] == "text/javascript; charset=utf-8"
    assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "accept-encoding")
    assert packed.headers["x-content-type-options"] == "nosniff"
    assert gzip.decompress(packed.body) == SCRIPT
    assert packed.headers["content-length"] == str(len(packed.body))
    for refusal in ("", "br", "gzip;q=0", "gzip; q=0.0"):
        plain = await request(files, "/assets/app-0a1b.js", headers={"accept-encoding": refusal})
        assert plain.body == SCRIPT
        assert "content-encoding" not in plain.headers


async def test_unchanged_file_is_not_sent_again(files: DashboardFiles) -> None:
    first = await request(files, "/favicon.svg")
    assert first.headers["content-type"] == "image/svg+xml"
    again = await request(files, "/favicon.svg", headers={"if-none-match": f'"other", {first.headers["etag"]}'})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/assets/none.js",
        "/../secret.js",
        "/assets/../../secret.js",
        "//etc/secret.js",
        "/assets/app-0a1b.js.gz",
        "/.sources",
        "/assets/..\\..\\secret.js",
        "/assets/app-0a1b.js\0.html",
    ],
)
async def test_nothing_but_built_files_is_served(files: DashboardFiles, path: str) -> None:
    answer = await request(files, path)
    assert answer.status == 404
    assert b"secret" not in answer.body


async def test_head_and_other_methods(files: DashboardFiles) -> None:
    head = await request(files, "/assets/app-0a1b.js", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(SCRIPT)))
    post = await request(files, "/", method="POST")
    assert (post.status, post.headers["allow"]) == (405, "GET, HEAD")


async def test_without_built_files_the_page_says_how_to_build(tmp_path: Path) -> None:
    answer = await request(DashboardFiles(tmp_path / "none"), "/")
    assert answer.status == 503
    assert b"make dashboard" in answer.body


def test_missing_sources_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "dashboard").mkdir()
    with pytest.raises(DashboardError, match=r"has no package-lock\.json"):
        Dashboard(tmp_path).build()


def test_failing_npm_is_a_clear_error(tmp_path: Path) -> None:
    sources = tmp_path / "dashboard"
    sources.mkdir()
    (sources / "package-lock.json").write_text("not a lock")
    (sources / "package.json").write_text("{")
    with pytest.raises(DashboardError, match=r"`npm ci` failed .* exit status"):
        Dashboard(tmp_path).build()
    assert not (tmp_path / "src").exists()
