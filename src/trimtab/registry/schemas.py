"""What the registry takes and answers. Shared with the Python client, so it imports nothing of server or database."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer, model_validator

from trimtab.fields import Comment, Moment, Name, Strict, check_name
from trimtab.registry.states import STAGES, Approval, Stage

RESERVED_TAGS = frozenset({*STAGES, "preview"})
PICO = Decimal(1_000_000)
"""1 USD per million tokens is this many pico-USD per token."""


def check_tag(value: str) -> str:
    """A version tag is a name that is not also an environment or stage."""
    value = check_name(value)
    if value.lower() in RESERVED_TAGS:
        raise ValueError(f"a version cannot be called {value!r}: that is an environment or stage; use, say, v1.0.0")
    return value


def check_url(value: str) -> str:
    """A base URL of http or https, without credentials, query or fragment, and without a slash at its end."""
    value = value.strip().rstrip("/")
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("this is no URL; give one such as http://127.0.0.1:9000/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError("give a base URL with http or https and a host, such as http://127.0.0.1:9000/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("leave user and password out of the URL; give the key as `credential`")
    if parts.query or parts.fragment or any(character.isspace() for character in value):
        raise ValueError("give a base URL without query, fragment and blanks; dialect paths are appended to it")
    return value


def _as_text(value: Any) -> Any:
    # Through text, so that 0.15 stands for itself and not for the nearest binary fraction.
    return str(value) if isinstance(value, float | int) and not isinstance(value, bool) else value


def plain_decimal(value: Decimal) -> str:
    """`value` without an exponent."""
    return format(value, "f")


def check_rate(value: Decimal) -> Decimal:
    """A price in USD per million tokens, exact to a pico-USD per token."""
    if not value.is_finite() or not 0 <= value <= 1_000_000:
        raise ValueError("a price is from 0 to 1000000 USD per million tokens")
    if value * PICO != int(value * PICO):
        raise ValueError("a price has at most 6 decimal places")
    return value


VersionTag = Annotated[str, AfterValidator(check_tag)]
Url = Annotated[str, Field(max_length=2000), AfterValidator(check_url)]
_PLAIN = PlainSerializer(plain_decimal, return_type=str, when_used="json")
Rate = Annotated[Decimal, BeforeValidator(_as_text), AfterValidator(check_rate), _PLAIN]
Dollars = Annotated[Decimal, BeforeValidator(_as_text), Field(ge=0, le=1_000_000), _PLAIN]
Label = Annotated[str, Field(min_length=1, max_length=256)]


class Pricing(Strict):
    """Prices in USD per million tokens. Cached input costs as much as other input where nothing is said."""

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None


class CredentialReference(Strict):
    """A credential kept already, as versions show it."""

    id: UUID
    hint: str | None = None


class Runtime(Strict):
    """Who runs the model: somebody else (`external`), or Trimtab itself (`process`).

    `gguf` is a file for the local engine; `command` an own server's program and arguments, in which `{port}` stands
    for the port chosen for it (or the port is given after `port_arg`).
    """

    kind: Literal["external", "process"] = "external"
    gguf: str | None = Field(None, min_length=1, max_length=4096)
    command: Annotated[list[str], Field(min_length=1, max_length=256)] | None = None
    args: Annotated[list[str], Field(max_length=256)] | None = None
    env: dict[str, str] | None = None
    health_path: Annotated[str, Field(pattern=r"^/", max_length=1000)] | None = None
    port_arg: Label | None = None
    start_timeout: Annotated[float, Field(gt=0, le=3600)] | None = None

    @model_validator(mode="after")
    def _one_program(self) -> Self:
        if self.kind == "process" and (self.gguf is None) == (self.command is None):
            raise ValueError("a process is started from `gguf` or from `command`: give one of them")
        if self.kind == "external":
            given = self.model_fields_set - {"kind"}
            if given:
                raise ValueError(f"{', '.join(sorted(given))}: only for `kind` process; external takes an endpoint")
        return self


class DeploymentConfig(Strict):
    """How a version is reached or run."""

    endpoint: Url | None = None
    endpoints: Annotated[list[Url], Field(min_length=1, max_length=64)] | None = None
    endpoint_path: Annotated[str, Field(pattern=r"^/[^?#\s]*$", max_length=1000)] | None = None
    provider: Label | None = None
    upstream_model: Label | None = None
    credential: Annotated[str, Field(min_length=1, max_length=10_000)] | CredentialReference | None = None
    runtime: Runtime | None = None
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    parameters: dict[str, Any] | None = None
    overrides: dict[str, Any] | None = None
    pricing: Pricing | None = None

    @model_validator(mode="after")
    def _one_way_there(self) -> Self:
        ways = [self.endpoint is not None, self.endpoints is not None, self.is_process]
        if sum(ways) > 1:
            raise ValueError("give one of `endpoint`, `endpoints` and a `runtime` of kind process, not several")
        return self

    @property
    def is_process(self) -> bool:
        """Whether Trimtab runs the model itself."""
        return self.runtime is not None and self.runtime.kind == "process"

    def urls(self) -> list[str]:
        """The endpoints given; none for a process."""
        return self.endpoints or ([self.endpoint] if self.endpoint else [])


class MetricRequirement(Strict):
    """Which way a metric is better, and by how much it may get worse."""

    direction: Literal["lower", "higher"]
    margin: Annotated[float, Field(ge=0)] = 0.0


class EvaluationRequirement(Strict):
    """A suite that a version must pass with at least this score."""

    suite: Name
    minimum: float


class PerformanceRequirements(Strict):
    """What a version promises: thresholds in ms (at p95), a fraction of errors, USD per request."""

    latency_threshold: Annotated[float, Field(gt=0, le=86_400_000)] | None = None
    ttft_threshold: Annotated[float, Field(gt=0, le=86_400_000)] | None = None
    error_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    cost_per_request: Dollars | None = None
    metrics: dict[str, MetricRequirement] | None = None
    evaluations: list[EvaluationRequirement] | None = None


class ResourceAllocation(Strict):
    """What one replica may use."""

    cpu: Annotated[float, Field(gt=0, le=1024)] | None = None
    memory_mb: Annotated[int, Field(gt=0, le=16_777_216)] | None = None
    gpu: Annotated[int, Field(ge=0, le=64)] | None = None


class ApprovalConditions(Strict):
    """What a conditional approval allows: a share of the route's traffic, until a moment."""

    max_traffic_percentage: Annotated[float, Field(gt=0, le=100)] = 100
    expires_at: Moment | None = None


# --- input ------------------------------------------------------------------------------------------------------------


class ModelCreate(Strict):
    """A new model."""

    name: Name
    provider: Label
    description: Comment = ""
    tags: dict[str, str] = Field(default_factory=dict)


class ModelUpdate(Strict):
    """What changes; fields left out stay."""

    name: Name | None = None
    provider: Label | None = None
    description: Comment | None = None
    tags: dict[str, str] | None = None


class LifecycleCreate(Strict):
    """A new version of a model."""

    model_id: UUID
    version_tag: VersionTag
    deployment_config: DeploymentConfig = DeploymentConfig()
    performance_requirements: PerformanceRequirements = PerformanceRequirements()
    resource_allocation: ResourceAllocation = ResourceAllocation()
    description: Comment = ""
    parent_lifecycle_id: UUID | None = None
    lineage: dict[str, Any] = Field(default_factory=dict)


class LifecycleUpdate(Strict):
    """What changes while a version was never approved; fields left out stay, those given are replaced whole."""

    version_tag: VersionTag | None = None
    deployment_config: DeploymentConfig | None = None
    performance_requirements: PerformanceRequirements | None = None
    resource_allocation: ResourceAllocation | None = None
    description: Comment | None = None
    lineage: dict[str, Any] | None = None


class ModelRegister(Strict):
    """A model that runs already somewhere, and its first version, in one call."""

    name: Name
    provider: Label
    version: VersionTag
    endpoint: Url | None = None
    upstream_model: Label | None = None
    credential: Annotated[str, Field(min_length=1, max_length=10_000)] | CredentialReference | None = None
    description: Comment = ""
    tags: dict[str, str] = Field(default_factory=dict)
    deployment_config: DeploymentConfig = DeploymentConfig()
    performance_requirements: PerformanceRequirements = PerformanceRequirements()
    resource_allocation: ResourceAllocation = ResourceAllocation()
    pricing: Pricing | None = None

    def config(self) -> DeploymentConfig:
        """The version's deployment configuration, of both places where its parts may be given."""
        given = self.deployment_config.model_dump(exclude_unset=True)
        for field in ("endpoint", "upstream_model", "credential", "provider"):
            if field in self.model_fields_set:
                value = getattr(self, field)
                given[field] = value.model_dump() if isinstance(value, BaseModel) else value
        return DeploymentConfig.model_validate(given)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        config = self.config()
        if not config.urls() and not config.is_process:
            raise ValueError("give the `endpoint` where the model runs, or a `deployment_config` to run it")
        return self


class Approve(Strict):
    """An approval; with `conditions` it is a conditional one."""

    approver: str | None = Field(None, max_length=128)
    comment: Comment = ""
    evidence: dict[str, Any] = Field(default_factory=dict)
    conditions: ApprovalConditions | None = None


class Reject(Strict):
    """A rejection."""

    approver: str | None = Field(None, max_length=128)
    comment: Comment = ""
    evidence: dict[str, Any] = Field(default_factory=dict)


class Transition(Strict):
    """A move to another stage."""

    to_stage: Stage
    comment: Comment = ""


class PriceCreate(Pricing):
    """A model's own price, from a moment on (now, where none is given)."""

    effective_from: Moment | None = None


# --- output -----------------------------------------------------------------------------------------------------------


class Model(BaseModel):
    """A model."""

    id: UUID
    workspace_id: UUID
    name: str
    description: str
    provider: str
    tags: dict[str, str]
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    version: int


class Lifecycle(BaseModel):
    """A version of a model and where it stands."""

    id: UUID
    workspace_id: UUID
    model_id: UUID
    model_name: str
    version_tag: str
    lifecycle_stage: Stage
    approval_status: Approval
    approval_conditions: ApprovalConditions | None
    deployment_config: dict[str, Any]
    performance_requirements: dict[str, Any]
    resource_allocation: dict[str, Any]
    description: str
    parent_lifecycle_id: UUID | None
    lineage: dict[str, Any]
    decided_by: UUID | None
    decided_by_name: str | None
    decided_at: datetime | None
    frozen_at: datetime | None
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    version: int


class RegisteredModel(Model):
    """A model with its first version."""

    lifecycle_id: UUID
    lifecycle: Lifecycle


class LifecycleEvent(BaseModel):
    """A step in the life of a version."""

    id: UUID
    lifecycle_id: UUID
    at: datetime
    actor_id: UUID | None
    actor_name: str
    event: Literal["registered", "changed", "approved", "rejected", "conditional", "stage"]
    from_value: str | None
    to_value: str | None
    comment: str
    evidence: dict[str, Any]


class ModelPrice(BaseModel):
    """A model's own price, in USD per million tokens as decimal strings."""

    id: UUID
    model_id: UUID
    effective_from: datetime
    input: str
    output: str
    cache_read: str
    cache_write: str
    created_by: UUID | None
    created_at: datetime
