"""The routes: OpenAI's under /v1, /health, /metrics and the page.

Every error that happens behind a route ends here, as a response in OpenAI's shape.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from orchestrator.openai.parameters import Call, chat_call, completion_call
from orchestrator.server.body import BodyReader
from orchestrator.server.gate import Gate
from orchestrator.server.metrics import CONTENT_TYPE
from orchestrator.server.refusal import Refusal, json_response, refusal_of
from orchestrator.server.service import Service

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/stream.js": "stream.js"}
_PAGE_HEADERS = {
    # nothing from elsewhere, and nobody may put the page into theirs
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
Reader = Callable[[Mapping[str, Any]], Call]
Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """What the routes do."""

    def __init__(self, service: Service) -> None:
        self._service, self._name = service, service.settings.name
        self._gate = Gate(service.settings)
        self._bodies = BodyReader(service.settings.max_body, service.settings.read_timeout)
        self._started = int(time.time())

    async def chat(self, request: Request) -> Response:
        return await self._generate(request, chat_call)

    async def complete(self, request: Request) -> Response:
        return await self._generate(request, completion_call)

    async def _generate(self, request: Request, read: Reader) -> Response:
        self._gate.check(request.headers)
        self._service.line.require_room()  # before a body is read in vain
        parameters = await self._bodies.read(request)
        with_sources = parameters.pop("include_sources", None) or False
        if not isinstance(with_sources, bool):
            raise Refusal(400, "include_sources must be true or false", param="include_sources")
        call = read(parameters)
        self._require_model(call.model)
        return await self._service.respond(request, call, with_sources=with_sources)

    def _require_model(self, name: str) -> None:
        if name and name != self._name:
            raise Refusal(
                404,
                f"there is no model {name[:80]!r} here; this server has {self._name!r}",
                code="model_not_found",
                param="model",
            )

    async def models(self, request: Request) -> Response:
        self._gate.check(request.headers)
        return json_response({"object": "list", "data": [self._model]})

    async def model(self, request: Request) -> Response:
        self._gate.check(request.headers)
        self._require_model(request.path_params["name"])
        return json_response(self._model)

    @property
    def _model(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._started, "owned_by": "pilotfish"}

    async def health(self, _request: Request) -> Response:
        closed = self._service.line.is_closed
        return json_response({"status": "stopping" if closed else "ok"}, 503 if closed else 200)

    async def metrics(self, request: Request) -> Response:
        self._gate.check(request.headers)
        return Response(self._service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def page(self, request: Request) -> Response:
        return FileResponse(PAGE / FILES[request.url.path], headers=_PAGE_HEADERS)


def application(service: Service) -> FastAPI:
    """All routes as an ASGI application."""
    api = Api(service)
    # the library's own pages would load scripts from elsewhere
    app = FastAPI(title="pilotfish", openapi_url=None, docs_url=None, redoc_url=None)

    def route(method: str, path: str, handler: Handler) -> None:
        async def endpoint(request: Request) -> Response:
            try:
                response = await handler(request)
            except Exception as error:
                response = refusal_of(error).response()
            service.metrics.answered(path, response.status_code)
            return response

        app.add_api_route(path, endpoint, methods=[method], response_model=None)

    route("POST", "/v1/chat/completions", api.chat)
    route("POST", "/v1/completions", api.complete)
    route("GET", "/v1/models", api.models)
    route("GET", "/v1/models/{name:path}", api.model)
    route("GET", "/health", api.health)
    route("GET", "/metrics", api.metrics)
    for path in FILES:
        route("GET", path, api.page)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = "use /v1/chat/completions, /v1/completions, /v1/models, /health, /metrics and a page at /"
        refusal = Refusal(
            error.status_code, f"no {request.method} on this path; {known}", headers=error.headers
        )
        return refusal.response()

    return app
