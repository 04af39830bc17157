"""Configuration from the environment, secrets from files.

A secret `NAME` is read from the file that `NAME_FILE` names, else from the variable `NAME`. Files are the better way:
a variable is seen by everyone who may inspect the container.
"""

import os
from dataclasses import dataclass, field


class ConfigError(Exception):
    """Something in the environment is missing or unusable."""


def secret(name: str) -> str | None:
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                value = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read `{name}_FILE`: {error}") from error
        if not value:
            raise ConfigError(f"`{name}_FILE` names an empty file: `{path}`")
        return value
    return os.environ.get(name) or None


def required(name: str) -> str:
    value = secret(name)
    if value is None:
        raise ConfigError(f"neither `{name}_FILE` nor `{name}` is set")
    return value


def number(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise ConfigError(f"`{name}` must be a whole number from {low} to {high}, it is `{text}`")
    return int(text)


@dataclass(frozen=True)
class Config:
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    # What the bot would answer with; this example only keeps it.
    bot_token: str | None = field(repr=False)
    # When set, `POST /webhook` must show it (Bot API, `setWebhook`, `secret_token`).
    webhook_secret: str | None = field(repr=False)
    port: int
    release: str
    # Seconds between SIGTERM and the end of accepting requests: the time a balancer has to see `/readyz` turn 503.
    drain_seconds: int
    fail_ready: bool

    @classmethod
    def from_environment(cls) -> "Config":
        return cls(
            database_url=required("DATABASE_URL"),
            redis_url=required("REDIS_URL"),
            bot_token=secret("TELEGRAM_BOT_TOKEN"),
            webhook_secret=secret("TELEGRAM_WEBHOOK_SECRET"),
            port=number("PORT", 8000, 1, 65535),
            release=os.environ.get("BUNDLE_RELEASE", ""),
            drain_seconds=number("DRAIN_SECONDS", 2, 0, 600),
            fail_ready=os.environ.get("FAIL_READY") == "1",
        )
