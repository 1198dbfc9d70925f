"""The routes of a server: OpenAI's, and those of the page."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from steer.serving.answering import Answer
from steer.serving.bodies import BODIES, Asked, ChatBody, CompletionBody, Judged, Near
from steer.serving.chosen import Names
from steer.serving.delivery import Post
from steer.serving.experts import Served
from steer.serving.guard import Guard
from steer.serving.listing import MOST, describe, read_by_streams, real_texts
from steer.serving.metrics import Metrics
from steer.serving.ordering import order
from steer.serving.plane import Plane
from steer.serving.recent import Recent
from steer.serving.refusal import Refusal, invalid, unknown_model
from steer.serving.scheduler import Scheduler
from steer.serving.settings import ServeSettings
from steer.version import __version__

STATIC = files("steer.serving") / "static"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class _Static(StaticFiles):
    def file_response(self, *given: Any, **named: Any) -> Response:
        response = super().file_response(*given, **named)
        response.headers.update(_HEADERS)
        return response


class Routes:
    """What each route does, for the experts of one server."""

    def __init__(self, served: Sequence[Served], settings: ServeSettings) -> None:
        self.experts = {each.name: each for each in served}
        self.settings = settings
        lives = {each.batch: partial(each.engine.live, each.longest) for each in served}
        self.scheduler = Scheduler(lives, settings.queue)
        self.metrics, self.recent, self.post = Metrics(self.scheduler), Recent(), Post()
        # All experts of a server draw their panels from the same real texts.
        self.plane = Plane(served[0].real.texts[:MOST], settings.embedder)

    def find(self, name: str) -> Served:
        """Finds an expert; raises `Refusal` where there is none of that name."""
        if name not in self.experts:
            raise unknown_model(name, [*self.experts])
        return self.experts[name]

    async def completions(self, body: CompletionBody, request: Request) -> Response:
        """Writes texts; OpenAI's completions."""
        return await self._answer(body, request)

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Writes texts; OpenAI's chat completions."""
        return await self._answer(body, request)

    async def _answer(self, asked: Asked, request: Request) -> Response:
        expert = self.find(asked.model)
        answer = Answer(
            expert,
            order(expert, asked, self.recent.find),
            asked,
            self.scheduler,
            self.post,
            self.metrics,
            self.recent,
            self.settings.timeout,
        )
        return await answer.respond(request)

    async def models(self) -> dict[str, Any]:
        """Lists the experts."""
        return {"object": "list", "data": [*map(self._describe, self.experts.values())]}

    async def model(self, name: str) -> dict[str, Any]:
        """Says what an expert is."""
        return self._describe(self.find(name))

    def _describe(self, served: Served) -> dict[str, Any]:
        return describe(served, self.settings.mask)

    async def texts(self, model: str) -> dict[str, Any]:
        """Lists an expert's real texts, for the page."""
        return real_texts(self.find(model))

    async def map(self) -> dict[str, Any]:
        """Says where the listed real texts lie on a plane."""
        return self.plane.describe()

    async def nearest(self, body: Near) -> dict[str, Any]:
        """Places texts on that plane, and finds the real text nearest to each."""
        names = Names(next(iter(self.experts.values())).real, self.recent.find)
        return {"texts": await self.plane.nearest([names.example(x, "texts") for x in body.texts])}

    async def streams(self, body: CompletionBody) -> dict[str, Any]:
        """Says what each stream of a request would read, and writes nothing."""
        expert = self.find(body.model)
        return read_by_streams(order(expert, body, self.recent.find))

    async def runs(self, body: Judged) -> dict[str, Any]:
        """Saves judged texts as a run."""
        records = self.recent.save(self.settings.save, body.name, body.verdicts)
        return {"name": body.name, "records": records}

    async def health(self) -> dict[str, str]:
        """Answers while the server runs."""
        return {"status": "ok"}

    async def figures(self) -> Response:
        """Gives figures for Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def page(self) -> Response:
        """Gives the page."""
        content = (STATIC / "page.html").read_bytes()
        return Response(content, media_type="text/html; charset=utf-8", headers=_HEADERS)


def make_app(served: Sequence[Served], settings: ServeSettings) -> FastAPI:
    """Makes the application; its engines start and stop with it."""
    routes = Routes(served, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        routes.scheduler.start()
        yield
        routes.plane.end()
        routes.scheduler.stop()

    app = FastAPI(
        title="steer",
        version=__version__,
        summary="Guided decoding behind OpenAI's interface.",
        docs_url=None,  # that page loads scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Guard, settings=settings, answered=routes.metrics.answered)
    _add_errors(app)
    app.post("/v1/completions")(routes.completions)
    app.post("/v1/chat/completions")(routes.chat)
    app.get("/v1/models")(routes.models)
    app.get("/v1/models/{name}")(routes.model)
    app.get("/steer/texts")(routes.texts)
    app.get("/steer/map")(routes.map)
    app.post("/steer/nearest")(routes.nearest)
    app.post("/steer/streams")(routes.streams)
    app.post("/steer/runs")(routes.runs)
    app.get("/health")(routes.health)
    app.get("/metrics")(routes.figures)
    app.get("/", include_in_schema=False)(routes.page)
    app.mount("/static", _Static(packages=[("steer.serving", "static"), ("steer", "web")]))
    return app


def _add_errors(app: FastAPI) -> None:
    """Gives every error OpenAI's form, and none of them a path or a traceback."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return error.response()

    async def unread(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        kind = BODIES.get(request.url.path, Asked)
        return invalid(error.errors(), [*kind.model_fields]).response()

    async def other(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind: Literal["not_found_error", "invalid_request_error"] = (
            "not_found_error" if error.status_code == 404 else "invalid_request_error"
        )
        return Refusal(error.status_code, str(error.detail), kind=kind).response()

    async def failed(request: Request, error: Exception) -> Response:
        refusal = Refusal(500, "the server failed; its log says why", kind="server_error")
        return JSONResponse(refusal.body(), 500)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(RequestValidationError, unread)
    app.add_exception_handler(HTTPException, other)
    app.add_exception_handler(Exception, failed)
