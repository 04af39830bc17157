"""Postgres and Redis as the web process sees them: pools that survive a restart of either."""

import asyncio
from dataclasses import dataclass

import psycopg
import redis
import redis.asyncio
from psycopg_pool import AsyncConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from . import jobs
from .config import Config

# What a request may wait for a connection before it is answered with 503.
WAIT_SECONDS = 3

UNAVAILABLE = (psycopg.OperationalError, redis.RedisError, TimeoutError)


@dataclass(frozen=True)
class Stored:
    message: int
    duplicate: bool
    processed: bool


class Stores:
    def __init__(self, config: Config) -> None:
        self.database = AsyncConnectionPool(
            config.database_url,
            kwargs={"autocommit": True, "connect_timeout": WAIT_SECONDS, "application_name": "marketplace-web"},
            min_size=1,
            max_size=8,
            timeout=WAIT_SECONDS,
            # Short, because the pool waits ever longer between its attempts: after it, each request tries afresh.
            reconnect_timeout=WAIT_SECONDS,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )
        self.queue = redis.asyncio.Redis.from_url(
            config.redis_url,
            socket_connect_timeout=WAIT_SECONDS,
            socket_timeout=WAIT_SECONDS,
            max_connections=64,
            retry=Retry(ConstantBackoff(0.05), 3),
            retry_on_error=[redis.ConnectionError],
        )

    async def open(self) -> None:
        await self.database.open(wait=False)

    async def close(self) -> None:
        await self.database.close()
        await self.queue.aclose()

    async def check(self) -> dict[str, str]:
        """Each store with `ok` or with what is wrong."""

        async def postgres() -> None:
            async with self.database.connection() as connection:
                await connection.execute("SELECT 1 FROM messages LIMIT 1")

        async def outcome(probe) -> str:
            try:
                await asyncio.wait_for(probe, WAIT_SECONDS)
            except (psycopg.Error, redis.RedisError, OSError) as error:
                # The type only: this answer is public, and messages name hosts and users.
                return type(error).__name__
            return "ok"

        database, queue = await asyncio.gather(outcome(postgres()), outcome(self.queue.ping()))
        return {"postgres": database, "redis": queue}

    async def store(self, update_id: int, text: str) -> Stored:
        """Stores a message once, however often Telegram delivers it."""
        row = await self.fetch(
            "INSERT INTO messages (update_id, text) VALUES (%s, %s)"
            " ON CONFLICT (update_id) DO UPDATE SET deliveries = messages.deliveries + 1"
            " RETURNING id, deliveries > 1, processed_at IS NOT NULL",
            (update_id, text),
        )
        return Stored(*row)

    async def enqueue(self, message: int, update: int) -> None:
        """For the worker, and for whoever waits for this update."""
        await self.queue.lpush(jobs.QUEUE, message)
        await self.queue.publish(jobs.STORED, update)

    async def fetch(self, sql: str, parameters: tuple = ()) -> tuple | None:
        async with self.database.connection() as connection:
            return await (await connection.execute(sql, parameters)).fetchone()
