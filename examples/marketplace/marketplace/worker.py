"""The worker: takes one job after another from the queue and marks its message as processed.

One process, and only one: what stands in the processing list when it starts was left there by a crash. Marking is
idempotent, so a job that was done but not yet removed may be done again.
"""

import logging
import signal
import time
from pathlib import Path

import psycopg
import redis

from . import health, jobs
from .config import Config

log = logging.getLogger("worker")

# How long one wait for a job lasts, and so the longest that a SIGTERM goes unnoticed.
WAIT_SECONDS = 1
# Messages that never reached the queue (or were lost with it) are taken from the table after this time.
STRAGGLER_SECONDS = 60


class Worker:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.stopping = False
        self.next_sweep = 0.0

    def stop(self, *_: object) -> None:
        self.stopping = True

    def run(self) -> None:
        """Until SIGTERM; a database or a queue that goes away is waited for."""
        while not self.stopping:
            try:
                self.session()
            except (psycopg.Error, redis.RedisError) as error:
                log.warning("trying again in a second: %s", error)
                time.sleep(1)

    def session(self) -> None:
        """Works over one pair of connections, until SIGTERM or until one of them breaks."""
        with (
            psycopg.connect(
                self.config.database_url, autocommit=True, connect_timeout=5, application_name="marketplace-worker"
            ) as database,
            redis.Redis.from_url(self.config.redis_url, socket_connect_timeout=5, socket_timeout=10) as queue,
        ):
            while queue.lmove(jobs.PROCESSING, jobs.QUEUE, "LEFT", "RIGHT"):
                log.info("put back a job that was left unfinished")
            log.info("working, release=%s", self.config.release)
            while not self.stopping:
                Path(health.ALIVE_FILE).touch()
                job = queue.blmove(jobs.QUEUE, jobs.PROCESSING, WAIT_SECONDS, "RIGHT", "LEFT")
                if job:
                    self.process(database, job)
                    queue.lrem(jobs.PROCESSING, 1, job)
                elif time.monotonic() > self.next_sweep:
                    self.sweep(database)

    def process(self, database: psycopg.Connection, job: bytes) -> None:
        if not job.isdigit():
            log.error("dropped a job that is not a message id: %r", job[:40])
            return
        database.execute(
            "UPDATE messages SET processed_at = now(), processed_by = %s WHERE id = %s AND processed_at IS NULL",
            (self.config.release, int(job)),
        )

    def sweep(self, database: psycopg.Connection) -> None:
        self.next_sweep = time.monotonic() + STRAGGLER_SECONDS
        rows = database.execute(
            "SELECT id FROM messages WHERE processed_at IS NULL AND received_at < now() - make_interval(secs => %s)"
            " ORDER BY id LIMIT 1000",
            (STRAGGLER_SECONDS,),
        ).fetchall()
        for (message,) in rows:
            self.process(database, b"%d" % message)
        if rows:
            log.info("processed %d messages that were not in the queue", len(rows))


def main(config: Config) -> int:
    worker = Worker(config)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, worker.stop)
    worker.run()
    log.info("stopped")
    return 0
