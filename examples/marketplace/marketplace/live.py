"""What stays open: long polls and web sockets, and how they end when the process is told to stop.

A long poll is answered at once, with nothing; a web socket gets a closing frame that says "service restart" (1012, IANA's
registry of RFC 6455). Clients of both come back at once, and by then a proxy sends them elsewhere.
"""

import asyncio
import json
import logging
import re

import redis

from .jobs import STORED
from .stores import Stores

log = logging.getLogger("live")

SERVICE_RESTART = 1012
# The longest that a poll may ask for; below every timeout of a proxy in front (75 s is common).
MAX_WAIT_SECONDS = 55
# News may be lost while Redis restarts: a poll looks for itself this often.
LOOK_SECONDS = 5
POLL_QUERY = re.compile(rb"update=([0-9]{1,18})&wait=([0-9]{1,3})")


class Live:
    def __init__(self, stores: Stores, release: str) -> None:
        self.stores = stores
        self.release = release
        self.stopped = asyncio.Event()
        self.polls: set[tuple[int, asyncio.Event]] = set()

    def stop(self) -> None:
        """Ends everything that is open; called in the event loop."""
        self.stopped.set()
        for _, news in self.polls:
            news.set()

    async def listen(self) -> None:
        """Wakes polls when Redis says what was stored, by whichever process; until cancelled."""
        while True:
            try:
                async with self.stores.queue.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(STORED)
                    while True:
                        # None after a while without news.
                        news = await channel.get_message(timeout=LOOK_SECONDS)
                        for update, event in self.polls if news else ():
                            if news["data"] == b"%d" % update:
                                event.set()
            except (redis.RedisError, OSError) as error:
                log.warning("no news for a moment: %s", error)
                await asyncio.sleep(1)

    async def poll(self, update: int, seconds: int) -> int | None:
        """The message of an update, as soon as it is stored; None if it is not within the time."""
        deadline = asyncio.get_running_loop().time() + min(seconds, MAX_WAIT_SECONDS)
        waiting = (update, asyncio.Event())
        self.polls.add(waiting)
        try:
            while True:
                row = await self.stores.fetch("SELECT id FROM messages WHERE update_id = %s", (update,))
                left = deadline - asyncio.get_running_loop().time()
                if row is not None or left <= 0 or self.stopped.is_set():
                    return row and row[0]
                waiting[1].clear()
                try:
                    await asyncio.wait_for(waiting[1].wait(), min(left, LOOK_SECONDS))
                except TimeoutError:
                    continue
        finally:
            self.polls.discard(waiting)

    async def socket(self, scope: dict, receive, send) -> None:
        """One web socket (ASGI 3.0): says hello, then answers what it is told, each time with the release."""
        if (await receive())["type"] != "websocket.connect":
            return
        if scope["path"] != "/ws":
            # Before it is accepted this is a 403.
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept", "headers": [(b"x-bundle-release", self.release.encode())]})
        echo = asyncio.create_task(self.echo(receive, send))
        stopped = asyncio.create_task(self.stopped.wait())
        try:
            await asyncio.wait({echo, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            ended = echo.done()
            echo.cancel()
        if not ended:
            await send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": "this release is stopping"})

    async def echo(self, receive, send) -> None:
        await self.say(send, {"hello": True})
        while (event := await receive())["type"] == "websocket.receive":
            await self.say(send, {"echo": event.get("text")})

    async def say(self, send, body: dict[str, object]) -> None:
        await send({"type": "websocket.send", "text": json.dumps(body | {"release": self.release})})
