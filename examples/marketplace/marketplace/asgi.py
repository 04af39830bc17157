"""As much of a web framework as six routes need: bodies in, JSON out (ASGI 3.0)."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

MAX_BODY = 1 << 20


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes


@dataclass(frozen=True)
class Reply:
    status: int
    body: dict[str, object]


Handler = Callable[[Request], Awaitable[Reply]]


class BadRequest(Exception):
    """The client's fault; `status` and the message go to the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Disconnected(Exception):
    """The client went away before its request was complete."""


async def read_request(scope: dict, receive: Callable) -> Request:
    """Reads the whole body before anything answers: an unread body would cost the client its connection."""
    body = bytearray()
    size = 0
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Disconnected
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > 16 * MAX_BODY:
            raise Disconnected
        if size <= MAX_BODY:
            body += chunk
        more = event.get("more_body", False)
    if size > MAX_BODY:
        raise BadRequest(413, f"the body is larger than {MAX_BODY} bytes")
    return Request(scope["method"], scope["path"], scope["query_string"], dict(scope["headers"]), bytes(body))


async def send_reply(send: Callable, reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
    payload = json.dumps(reply.body, separators=(",", ":")).encode() + b"\n"
    common = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(payload))]
    await send({"type": "http.response.start", "status": reply.status, "headers": common + headers})
    await send({"type": "http.response.body", "body": payload})
