"""Serves the page to browsers on this machine, and to nobody else.

An ASGI application that looks paths up in a table, under uvicorn. It listens on the
loopback address alone. Requests that name another host are refused: a site elsewhere
could otherwise read the page under a name of its own (DNS rebinding).
"""

import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pocketseq.export.demo.site import Resource, Site
from pocketseq.pipeline.errors import UserError

if TYPE_CHECKING:
    import uvicorn

#: The only address that is listened on.
ADDRESS = "127.0.0.1"

#: The port that is tried first where none is given. The same one each time, because
#: what a browser keeps for use without a network belongs to an address and a port.
USUAL_PORT = 8473

#: Of every response. Scripts come from files of this site alone, and WebAssembly may be
#: compiled.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # A browser asks each time whether it has the newest, which costs nothing here.
    "Cache-Control": "no-cache",
}

Application = Callable[[dict[str, Any], Any, Any], Coroutine[Any, Any, None]]


def application(site: Site, port: int) -> Application:
    """Returns the ASGI application of a site that listens on a port."""
    hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}

    async def respond(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        status, resource = _found(site, hosts, scope, headers)
        fields = _HEADERS | {"Content-Type": resource.media_type}
        content = resource.content
        if status == 200:
            fields["ETag"] = resource.tag
            if headers.get(b"if-none-match") == resource.tag:
                status, content = 304, b""
        if status != 304:
            fields["Content-Length"] = str(len(content))
        if status == 405:
            fields["Allow"] = "GET, HEAD"
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (name.lower().encode(), value.encode())
                    for name, value in fields.items()
                ],
            }
        )
        body = b"" if scope["method"] == "HEAD" else content
        await send({"type": "http.response.body", "body": body})

    return respond


def _found(
    site: Site, hosts: set[str], scope: dict[str, Any], headers: dict[bytes, str]
) -> tuple[int, Resource]:
    """Returns the status and the content that answer a request."""
    if headers.get(b"host") not in hosts:
        return 421, _words(f"expected one of the hosts {', '.join(sorted(hosts))}")
    if scope["method"] not in ("GET", "HEAD"):
        return 405, _words("expected GET or HEAD")
    if resource := site.get(scope["path"]):
        return 200, resource
    return 404, _words("there is nothing here")


def _words(text: str) -> Resource:
    return Resource(f"{text}\n".encode(), "text/plain; charset=utf-8")


def listening(port: int | None) -> socket.socket:
    """Returns a socket that listens.

    Args:
        port: None: :data:`USUAL_PORT` if it is free, else any other.

    Raises:
        UserError: The port is taken, or may not be used.
    """
    if port is not None:
        try:
            return _listening(port)
        except OSError as error:
            problem = os.strerror(error.errno) if error.errno else str(error)
            raise UserError(
                f"--port {port}: {problem}, expected a free port; without --port one "
                f"is found"
            ) from error
    with contextlib.suppress(OSError):
        return _listening(USUAL_PORT)
    return _listening(0)


def _listening(port: int) -> socket.socket:
    # Not reused while another program listens, on any system.
    return socket.create_server((ADDRESS, port))


def serve(site: Site, listener: socket.socket) -> None:
    """Answers requests until Ctrl-C or SIGTERM."""
    import uvicorn

    # It ends in order, then raises the signal that made it end.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(settings(site, listener)).run(sockets=[listener])


def settings(site: Site, listener: socket.socket) -> "uvicorn.Config":
    """Returns how uvicorn serves a site."""
    import uvicorn

    return uvicorn.Config(
        application(site, listener.getsockname()[1]),
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Browsers keep connections open that they no longer need.
        timeout_graceful_shutdown=1,
    )
