"""Brings the tables up to date, as the new release, while the old one still serves.

So every migration is *expand only*: it adds, and what it adds may be left out by older code. Files run in the order of
their names, each in a transaction of its own with the row that remembers it, under one advisory lock. Running twice
changes nothing, and versions in the table that this release does not know (after a rollback) are left alone.
"""

import hashlib
import logging
import sys
import time
from pathlib import Path

import psycopg

from .config import Config

log = logging.getLogger("migrate")

DIRECTORY = Path(__file__).resolve().parent.parent / "migrations"
# Any number will do; it must only be the same in every release.
ADVISORY_LOCK = 7_203_115_904
# A database that has just been started may refuse connections for a while.
CONNECT_SECONDS = 30


class MigrationError(Exception):
    """A migration file cannot be applied."""


def connect(url: str) -> psycopg.Connection:
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=5, application_name="marketplace-migrate")
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.info("waiting for the database: %s", str(error).strip().splitlines()[-1])
            time.sleep(0.5)


def apply(connection: psycopg.Connection, files: list[Path]) -> int:
    """Applies what is missing, and returns how many files that were."""
    # Waiting for a lock blocks every later query on the same table: give up instead, the old release is serving.
    connection.execute("SET lock_timeout = '5s'")
    connection.execute("SET statement_timeout = '5min'")
    connection.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (version text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    done = dict(connection.execute("SELECT version, sha256 FROM schema_migrations").fetchall())
    applied = 0
    for file in files:
        sql = file.read_bytes()
        if not sql.startswith(b"-- expand:"):
            raise MigrationError(f"`{file.name}` does not begin with `-- expand:`")
        digest = hashlib.sha256(sql).hexdigest()
        if file.stem in done:
            if done[file.stem] != digest:
                raise MigrationError(f"`{file.name}` was changed after it had been applied; add a new file instead")
            continue
        with connection.transaction():
            connection.execute(sql)
            connection.execute("INSERT INTO schema_migrations (version, sha256) VALUES (%s, %s)", (file.stem, digest))
        log.info("applied %s", file.name)
        applied += 1
    return applied


def main(config: Config) -> int:
    try:
        with connect(config.database_url) as connection:
            applied = apply(connection, sorted(DIRECTORY.glob("*.sql")))
    except (MigrationError, psycopg.Error) as error:
        sys.stderr.write(f"marketplace: the migration failed, nothing of the failing file was kept: {error}\n")
        return 1
    log.info("%d applied, the tables are up to date", applied)
    return 0
