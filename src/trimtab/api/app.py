"""The control API as an ASGI application."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from trimtab.api import idempotency, problems
from trimtab.api.caller import Services
from trimtab.api.middleware import BodyLimit, RequestContext
from trimtab.api.problems import MEDIA_TYPE, Problem
from trimtab.api.routers import ROUTERS

PREFIX = "/api/v1"
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key with the same body gets the same answer, and the change is made once.",
    "schema": {"type": "string", "maxLength": idempotency.LONGEST_KEY},
}


class ControlApi(FastAPI):
    """FastAPI whose OpenAPI document also tells of what the middleware does."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path in document["paths"].values():
                if "post" in path:
                    path["post"].setdefault("parameters", []).append(KEY_PARAMETER)
        assert self.openapi_schema is not None
        return self.openapi_schema


def operation_id(route: APIRoute) -> str:
    """The name of an operation in generated clients: its tag and its function."""
    group = str(route.tags[0]) if route.tags else "api"
    return f"{group}_{route.name}".replace("-", "_")


def create_app(services: Services | None) -> FastAPI:
    """The application.

    Parameters:
        services: what it works with; None only to look at its OpenAPI document.
    """
    app = ControlApi(
        title="Trimtab control API",
        version="1",
        summary="Models, their versions, deployments and what they did.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
        responses={
            "default": {
                "description": "What went wrong (RFC 9457)",
                "model": Problem,
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
        },
    )
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    problems.install(app)
    idempotency.install(app)
    # The last one added is the outermost.
    app.add_middleware(idempotency.Idempotency)
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestContext)
    return app
