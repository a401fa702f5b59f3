"""What the registry takes, and how it says no."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from trimtab.fields import Name
from trimtab.registry.models import from_pico, rates, to_pico
from trimtab.registry.schemas import (
    DeploymentConfig,
    LifecycleCreate,
    ModelRegister,
    PerformanceRequirements,
    Pricing,
    ResourceAllocation,
    Runtime,
    Url,
    VersionTag,
)

NAME: TypeAdapter[str] = TypeAdapter(Name)
TAG: TypeAdapter[str] = TypeAdapter(VersionTag)
URL: TypeAdapter[str] = TypeAdapter(Url)


def complaints(model: type[BaseModel], value: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return {".".join(map(str, line["loc"])): line["msg"] for line in caught.value.errors()}


@pytest.mark.parametrize(
    "name", ["a", "Customer Service Bot", "1.0.0", "ünïcode", "x" * 128, "gpt-4o:mini", "{braces}"]
)
def test_names(name: str) -> None:
    assert NAME.validate_python(f" {name} ") == name


@pytest.mark.parametrize("name", ["", "   ", "a@b", "a/b", "a\nb", "a\x00b", "x" * 129, "a\u200bb"])
def test_no_names(name: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(name)


@pytest.mark.parametrize("tag", ["production", "Staging", "DEVELOPMENT", "testing", "preview", " retired "])
def test_a_tag_is_no_environment(tag: str) -> None:
    with pytest.raises(ValidationError, match="environment or stage"):
        TAG.validate_python(tag)


@given(st.text())
def test_a_name_is_taken_or_refused_never_more(text: str) -> None:
    try:
        name = NAME.validate_python(text)
    except ValidationError:
        return
    assert 1 <= len(name) <= 128 and name.isprintable() and not set("@/") & set(name) and name == name.strip()


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("http://127.0.0.1:9000/v1", "http://127.0.0.1:9000/v1"),
        ("https://example.com/", "https://example.com"),
        ("http://[::1]:8080/v1/", "http://[::1]:8080/v1"),
    ],
)
def test_urls(given_url: str, kept: str) -> None:
    assert URL.validate_python(given_url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:9000",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://",
        "http:///v1",
        "http://user:secret@example.com",
        "http://secret@example.com",
        "http://example.com/v1?key=secret",
        "http://example.com/#x",
        "http://exa mple.com",
        "http://example.com:99999",
        "http://example.com:port",
        "http://[::1",
    ],
)
def test_no_urls(url: str) -> None:
    with pytest.raises(ValidationError):
        URL.validate_python(url)


def test_unknown_fields_are_named_with_what_was_meant() -> None:
    found = complaints(
        LifecycleCreate,
        {
            "model_id": str(uuid4()),
            "version_tag": "v1",
            "deployment_config": {"endpont": "http://x", "runtime": {"kind": "process", "gguff": "x"}},
            "performance_requirements": {"latency_treshold": 1},
            "resource_allocation": {"zebra": 1},
        },
    )
    assert found["deployment_config.endpont"] == "Unknown field; did you mean `endpoint`?"
    assert found["deployment_config.runtime.gguff"] == "Unknown field; did you mean `gguf`?"
    assert found["performance_requirements.latency_treshold"] == "Unknown field; did you mean `latency_threshold`?"
    assert found["resource_allocation.zebra"] == "Unknown field; known ones are `cpu`, `memory_mb`, `gpu`"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"endpoint": "http://a"},
        {"endpoints": ["http://a", "http://b"], "replicas": 2, "parameters": {"x": None}},
        {"runtime": {"kind": "process", "gguf": "/m.gguf"}},
        {"runtime": {"kind": "process", "command": ["serve", "{port}"], "env": {"A": "b"}}},
        {"endpoint": "http://a", "runtime": {"kind": "external"}},
        {"endpoint": "http://a", "credential": {"id": "01a2055f-2162-717c-a754-322a422a1ea1", "hint": "...abcd"}},
        {"endpoint": "http://a", "endpoint_path": "/custom/chat", "pricing": {"input": 1, "output": "2.5"}},
    ],
)
def test_configurations(config: dict[str, Any]) -> None:
    DeploymentConfig.model_validate(config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"endpoint": "http://a", "endpoints": ["http://b"]}, "give one of"),
        ({"endpoint": "http://a", "runtime": {"kind": "process", "gguf": "x"}}, "give one of"),
        ({"runtime": {"kind": "process"}}, "give one of them"),
        ({"runtime": {"kind": "process", "gguf": "x", "command": ["y"]}}, "give one of them"),
        ({"runtime": {"kind": "external", "gguf": "x"}}, "only for `kind` process"),
        ({"runtime": {"kind": "docker"}}, "external"),
        ({"endpoints": []}, "at least 1"),
        ({"replicas": 0}, "greater than or equal to 1"),
        ({"endpoint_path": "no-slash"}, "match"),
        ({"pricing": {"input": 1}}, "Field required"),
        ({"pricing": {"input": "0.0000001", "output": 1}}, "6 decimal places"),
        ({"pricing": {"input": -1, "output": 1}}, "from 0"),
        ({"pricing": {"input": "NaN", "output": 1}}, "number"),
    ],
)
def test_no_configurations(config: dict[str, Any], said: str) -> None:
    assert any(said in message for message in complaints(DeploymentConfig, config).values())


def test_requirements_and_allocation() -> None:
    given_ones = {"error_rate": 0.02, "latency_threshold": 800, "cost_per_request": 0.0000001}
    kept = PerformanceRequirements.model_validate(given_ones).model_dump(mode="json", exclude_unset=True)
    assert kept == {"error_rate": 0.02, "latency_threshold": 800.0, "cost_per_request": "0.0000001"}
    assert complaints(PerformanceRequirements, {"error_rate": 1.5}).keys() == {"error_rate"}
    assert complaints(ResourceAllocation, {"cpu": 0, "memory_mb": -1, "gpu": 0.5}).keys() == {"cpu", "memory_mb", "gpu"}


def test_registering_takes_parts_from_both_places() -> None:
    registered = ModelRegister.model_validate(
        {
            "name": "bot",
            "provider": "openai-compatible",
            "version": "v1",
            "endpoint": "http://a/v1",
            "credential": "sk-123",
            "deployment_config": {"upstream_model": "gpt", "parameters": {"temperature": 0}},
        }
    )
    assert registered.config().model_dump(exclude_unset=True) == {
        "endpoint": "http://a/v1",
        "credential": "sk-123",
        "upstream_model": "gpt",
        "provider": "openai-compatible",
        "parameters": {"temperature": 0},
    }
    missing = complaints(ModelRegister, {"name": "bot", "provider": "x", "version": "v1"})
    assert "endpoint" in next(iter(missing.values()))


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_prices_keep_their_value(input_pico: int, output_pico: int) -> None:
    pricing = Pricing.model_validate({"input": from_pico(input_pico), "output": from_pico(output_pico)})
    assert rates(pricing) == {
        "input_pico": input_pico,
        "output_pico": output_pico,
        "cache_read_pico": input_pico,
        "cache_write_pico": input_pico,
    }


def test_price_texts() -> None:
    assert (from_pico(0), from_pico(150_000), from_pico(15_000_000), from_pico(1)) == ("0", "0.15", "15", "0.000001")
    assert to_pico(Decimal("2.5")) == 2_500_000
    assert Runtime.model_validate({}).kind == "external"
