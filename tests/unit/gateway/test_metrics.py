"""Metrics of several workers in one scrape."""

from __future__ import annotations

from pathlib import Path

from trimtab.gateway.metrics import Metrics


def test_a_scrape_of_one_worker_shows_all(tmp_path: Path) -> None:
    one = Metrics(tmp_path, 0, lambda: [("trimtab_requests_in_flight", "gauge", "", 2)])
    other = Metrics(tmp_path, 1, list)
    other.count("d", 200)
    other.count("d", 204)
    other.count(None, 404)
    other.publish()
    lines = one.text().decode().splitlines()
    assert 'trimtab_requests_in_flight{worker="0"} 2' in lines
    assert 'trimtab_requests_total{worker="1",deployment="d",status="2xx"} 2' in lines
    assert 'trimtab_requests_total{worker="1",deployment="",status="4xx"} 1' in lines
    assert lines.count("# TYPE trimtab_requests_total counter") == 1
    other.remove()
    assert b'worker="1"' not in one.text()
