"""The HTTP side: probes, the webhook, and a look at what was stored, at once or when it comes."""

import asyncio
import hmac
import json
import logging
import re

import psycopg

from . import server
from .asgi import BadRequest, Disconnected, Reply, Request, read_request, send_reply
from .config import Config
from .live import POLL_QUERY, Live
from .stores import UNAVAILABLE, Stores

log = logging.getLogger("web")

MESSAGE_PATH = re.compile(r"/messages/([1-9][0-9]{0,17})", re.ASCII)


class App:
    """The ASGI application. `draining` is set on SIGTERM, while requests are still answered."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stores = Stores(config)
        self.live = Live(self.stores, config.release)
        self.draining = False

    def stop(self) -> None:
        """Told by SIGTERM: answers go on, what would stay open ends."""
        self.draining = True
        self.live.stop()

    async def __call__(self, scope: dict, receive, send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self.live.socket(scope, receive, send)
        elif scope["type"] == "http":
            try:
                reply = await self.answer(await read_request(scope, receive))
            except Disconnected:
                return
            except BadRequest as error:
                reply = Reply(error.status, {"error": str(error)})
            headers = [(b"x-bundle-release", self.config.release.encode())]
            if self.draining:
                # Said rather than done: a connection closed without notice can swallow the request just sent on it.
                headers.append((b"connection", b"close"))
            reply.body.setdefault("release", self.config.release)
            await send_reply(send, reply, headers)

    async def lifespan(self, receive, send) -> None:
        listening = None
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                await self.stores.open()
                listening = asyncio.create_task(self.live.listen())
            else:
                if listening:
                    listening.cancel()
                await self.stores.close()
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return

    async def answer(self, request: Request) -> Reply:
        try:
            match (request.method, request.path):
                case ("GET", "/healthz"):
                    return Reply(200, {"status": "alive"})
                case ("GET", "/readyz"):
                    return await self.ready()
                case ("POST", "/webhook"):
                    return await self.webhook(request)
                case ("GET", "/poll"):
                    return await self.poll(request)
                case ("GET", "/messages/count"):
                    return await self.count()
                case ("GET", path) if found := MESSAGE_PATH.fullmatch(path):
                    return await self.message(int(found[1]))
            return Reply(404, {"error": f"no such route: {request.method} {request.path}"})
        except UNAVAILABLE as error:
            log.warning("%s %s: %s", request.method, request.path, error)
            return Reply(503, {"error": "the database or the queue does not answer"})
        except psycopg.Error:
            log.exception("%s %s", request.method, request.path)
            return Reply(500, {"error": "the database refused the query"})

    async def ready(self) -> Reply:
        if self.draining:
            return Reply(503, {"status": "stopping"})
        if self.config.fail_ready:
            return Reply(503, {"status": "failing on purpose (FAIL_READY=1)"})
        checks = await self.stores.check()
        good = all(state == "ok" for state in checks.values())
        return Reply(200 if good else 503, {"status": "ready" if good else "not ready", "checks": checks})

    async def webhook(self, request: Request) -> Reply:
        expected = self.config.webhook_secret
        shown = request.headers.get(b"x-telegram-bot-api-secret-token", b"")
        if expected is not None and not hmac.compare_digest(shown, expected.encode()):
            raise BadRequest(401, "the secret token is missing or wrong")
        update_id, text = parse_update(request.body)
        stored = await self.stores.store(update_id, text)
        if not stored.processed:
            # If this fails the answer is 503, Telegram delivers the update again, and it is queued then.
            await self.stores.enqueue(stored.message, update_id)
        return Reply(200, {"stored": stored.message, "duplicate": stored.duplicate})

    async def poll(self, request: Request) -> Reply:
        asked = POLL_QUERY.fullmatch(request.query)
        if asked is None:
            raise BadRequest(400, "ask for `/poll?update=NUMBER&wait=SECONDS`")
        return Reply(200, {"message": await self.live.poll(int(asked[1]), int(asked[2]))})

    async def count(self) -> Reply:
        count, deliveries, processed = await self.stores.fetch(
            "SELECT count(*), coalesce(sum(deliveries), 0)::bigint, count(processed_at) FROM messages"
        )
        return Reply(200, {"count": count, "deliveries": deliveries, "processed": processed})

    async def message(self, number: int) -> Reply:
        row = await self.stores.fetch(
            "SELECT id, update_id, text, deliveries, processed_at IS NOT NULL, processed_by FROM messages WHERE id = %s",
            (number,),
        )
        if row is None:
            return Reply(404, {"error": f"no message {number}"})
        names = ("id", "update_id", "text", "deliveries", "processed", "processed_by")
        return Reply(200, dict(zip(names, row, strict=True)))


def parse_update(body: bytes) -> tuple[int, str]:
    try:
        update = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, "the body is not JSON") from error
    if not isinstance(update, dict):
        raise BadRequest(400, "the body is not a JSON object")
    update_id, text = update.get("update_id"), update.get("text")
    if type(update_id) is not int or not 0 <= update_id < 1 << 63:
        raise BadRequest(400, "`update_id` must be a whole number")
    try:
        good = isinstance(text, str) and "\0" not in text and text.encode() is not None
    except UnicodeEncodeError:
        good = False
    if not good:
        raise BadRequest(400, "`text` must be a string that Postgres can store (no NUL, no lone surrogates)")
    return update_id, text


def main(config: Config) -> int:
    if config.bot_token is None:
        log.warning("no `TELEGRAM_BOT_TOKEN_FILE`: messages are stored, nothing could be answered")
    if not config.release:
        log.warning("`BUNDLE_RELEASE` is not set: nobody can tell which release answers")
    return server.serve(App(config), config)
