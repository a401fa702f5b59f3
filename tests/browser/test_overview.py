"""The overview page, as a person meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.acceptance.serving import ADMIN_KEY, ServerProcess, serving

from trimtab import Trimtab

PATIENCE = 30_000


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key", exact=True).fill(key)
    page.get_by_role("button", name="Show deployments").click()


def region(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name)


def test_health_is_shown_live_without_a_key(page: Page, server: ServerProcess) -> None:
    page.goto(server.url)
    health = region(page, "System health")
    expect(health.get_by_text("Ready", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(health.get_by_text("Live", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_label("API key", exact=True)).to_be_visible()


def test_wrong_key_is_refused_with_the_next_step(page: Page, server: ServerProcess) -> None:
    page.goto(server.url)
    sign_in(page, "tt_" + "x" * 43)
    expect(page.get_by_text("Enter another key")).to_be_visible(timeout=PATIENCE)
    sign_in(page, ADMIN_KEY)
    expect(region(page, "Deployments").get_by_text("Live", exact=True)).to_be_visible(timeout=PATIENCE)


def test_new_deployment_appears_by_itself(page: Page, server: ServerProcess) -> None:
    page.goto(server.url)
    sign_in(page, ADMIN_KEY)
    deployments = region(page, "Deployments")
    expect(deployments.get_by_text("No deployments yet")).to_be_visible(timeout=PATIENCE)

    with Trimtab(server.url, api_key=ADMIN_KEY) as trimtab:
        model = trimtab.register_existing_model(
            name="shown-bot", endpoint="http://127.0.0.1:9/v1", provider="openai-compatible", version="v1.0.0"
        )
        trimtab.approve_lifecycle(model.lifecycle_id, "admin")
        trimtab.deploy_model(model.lifecycle_id, environment="development", deployment_type="direct")

    row = deployments.get_by_role("row", name="shown-bot")
    expect(row).to_be_visible(timeout=PATIENCE)
    expect(row.get_by_text("v1.0.0", exact=True)).to_be_visible()
    expect(row.get_by_text("Development", exact=True)).to_be_visible()


def test_key_lives_in_its_tab_only(page: Page, server: ServerProcess) -> None:
    page.goto(server.url)
    sign_in(page, ADMIN_KEY)
    expect(page.get_by_role("button", name="Forget key")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Forget key")).to_be_visible()
    other = page.context.new_page()
    other.goto(server.url)
    expect(other.get_by_label("API key", exact=True)).to_be_visible()
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0


@pytest.mark.parametrize("width", [390, 1600])
def test_nothing_overflows(page: Page, server: ServerProcess, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(server.url)
    sign_in(page, ADMIN_KEY)
    expect(region(page, "Deployments").get_by_text("Live", exact=True)).to_be_visible(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_unknown_address_leads_back(page: Page, server: ServerProcess) -> None:
    page.goto(f"{server.url}/no/such/page")
    expect(page.get_by_role("heading", name="There is no page at this address")).to_be_visible()
    page.get_by_role("link", name="Go to the overview").click()
    expect(region(page, "System health")).to_be_visible()


def test_lost_server_is_told_and_the_last_state_kept(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        page.clock.install()
        page.goto(server.url)
        health = region(page, "System health")
        expect(health.get_by_text("Live", exact=True)).to_be_visible(timeout=PATIENCE)
        server.stop()
        expect(health.get_by_text("Reconnecting", exact=True)).to_be_visible(timeout=PATIENCE)
        page.clock.run_for(12_000)
        expect(health.get_by_text("Stale since")).to_be_visible(timeout=PATIENCE)
        expect(health.get_by_text("Ready", exact=True)).to_be_visible()
