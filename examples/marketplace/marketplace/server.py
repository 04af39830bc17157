"""Runs the application under uvicorn, with a life cycle that a proxy can rely on.

- One event loop holds any number of idle keep-alive connections; a proxy's pool cannot starve it.
- Idle connections live longer here than in any proxy in front (75 s is common), so that the proxy is the one to close.
  Otherwise a POST can meet a closing connection, and a POST must not be sent twice.
- SIGTERM: `/readyz` answers 503 at once, every answer says `Connection: close`, and what would stay open ends (live.py);
  after the drain time no more connections are accepted, what is in flight is finished, and the exit status is 0.
"""

import asyncio
import logging

import uvicorn

from .config import Config

log = logging.getLogger("server")

KEEP_ALIVE_SECONDS = 120
# For requests still in flight after the drain time; with it, keep below the container's grace period.
FINISH_SECONDS = 20
# The longest message on a web socket, in bytes.
MAX_MESSAGE = 1 << 16


class Server(uvicorn.Server):
    def __init__(self, app, config: Config) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host="0.0.0.0",
                port=config.port,
                loop="asyncio",
                http="h11",
                # Of the two that uvicorn knows, the one that waits for the other side's closing frame before it hangs up.
                ws="websockets",
                ws_max_size=MAX_MESSAGE,
                lifespan="on",
                backlog=2048,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=FINISH_SECONDS,
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
            )
        )
        self.app = app
        self.drain_seconds = config.drain_seconds
        self.event_loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, *arguments, **keywords) -> None:
        self.event_loop = asyncio.get_running_loop()
        await super().startup(*arguments, **keywords)

    def handle_exit(self, sig: int, frame) -> None:
        """Replaces uvicorn's own, which closes at once and then raises the signal again."""
        if self.app.draining or self.event_loop is None:
            self.should_exit = True
            return
        log.info("stopping: %d s for the balancer, then what is in flight", self.drain_seconds)
        self.event_loop.call_soon_threadsafe(self.app.stop)
        self.event_loop.call_soon_threadsafe(self.event_loop.call_later, self.drain_seconds, self.stop)

    def stop(self) -> None:
        self.should_exit = True


def serve(app, config: Config) -> int:
    server = Server(app, config)
    server.run()
    return 0 if server.started else 1
