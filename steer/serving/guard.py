"""What a request must pass before it is looked at: host, key, kind and size of its body."""

import asyncio
import hmac
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steer.serving.refusal import Refusal, shown
from steer.serving.settings import ServeSettings

OPEN = ("/", "/health")
"""Paths that need no key: the page asks for it itself."""

_SLOW = 30.0  # seconds for a body to come
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Refuses what may not pass, before any of it is parsed; counts every answer by its route."""

    def __init__(
        self, app: ASGIApp, settings: ServeSettings, answered: Callable[[str, int], None]
    ) -> None:
        self.app, self.settings, self.answered = app, settings, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, await self._checked(scope, receive), counted)
        except Refusal as refusal:
            await refusal.response()(scope, receive, counted)
        finally:
            route = scope.get("route")
            self.answered(getattr(route, "path", "other"), status)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_key(scope["path"], headers)
        if scope["method"] != "POST":
            return receive
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            # A browser may post other kinds from any page without asking.
            raise Refusal(415, f"the body is {shown(kind)}; send application/json")
        return await self._read(headers, receive)

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere may have its own name lead to this machine; without a key only names of
        this machine are answered."""
        if self.settings.api_key is not None:
            return
        host = headers.get("host", "").rsplit("@")[-1]
        name = host.split("]")[0].lstrip("[") if host.startswith("[") else host.split(":")[0]
        if name not in (*_LOCAL, self.settings.host):
            raise Refusal(421, f"the host {shown(name)} is not served without a key")

    def _check_key(self, path: str, headers: Headers) -> None:
        key = self.settings.api_key
        if key is None or path in OPEN or path.startswith("/static/"):
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), key.encode())
        if kind.lower() != "bearer" or not same:
            raise Refusal(
                401,
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                kind="authentication_error",
                code="invalid_api_key",
            )

    async def _read(self, headers: Headers, receive: Receive) -> Receive:
        """Reads the body as far as it may be; gives it to whoever receives next."""
        most = self.settings.body_bytes
        declared = headers.get("content-length", "0")
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(_SLOW):
                while more:
                    if len(body) > most or (declared.isdecimal() and int(declared[:20]) > most):
                        raise Refusal(413, f"the body has more than {most} bytes; send less")
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the body is not whole")
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refusal(408, "the body did not come in time", kind="timeout_error") from None
        if len(body) > most:
            raise Refusal(413, f"the body has more than {most} bytes; send less")
        first: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def again() -> Message:
            nonlocal first
            message, first = first, None
            return message if message is not None else await receive()

        return again
