"""Which features the control API is made of."""

from __future__ import annotations

from fastapi import APIRouter

from trimtab.access.routes import router as access
from trimtab.registry.routes import router as registry

ROUTERS: tuple[APIRouter, ...] = (registry, access)
