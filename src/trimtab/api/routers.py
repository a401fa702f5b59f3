"""Which features the control API is made of."""

from __future__ import annotations

from fastapi import APIRouter

from trimtab.access.routes import router as access
from trimtab.deployments.routes import router as deployments
from trimtab.monitoring.routes import router as monitoring
from trimtab.registry.routes import router as registry
from trimtab.usage.routes import router as usage

ROUTERS: tuple[APIRouter, ...] = (registry, deployments, monitoring, usage, access)
