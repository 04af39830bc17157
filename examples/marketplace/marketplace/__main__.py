"""`python3 -m marketplace COMMAND`: one image, one entry point, four roles."""

import logging
import os
import signal
import sys

from .config import Config, ConfigError

USAGE = """usage: python3 -m marketplace COMMAND

  web              serve HTTP on $PORT
  worker           process stored messages, one at a time
  migrate          bring the tables up to date, then exit
  health [worker]  exit 0 if the web process (or the worker) beside us is healthy
"""


def main(argv: list[str]) -> int:
    command = argv[1:2]
    if command not in (["web"], ["worker"], ["migrate"], ["health"]):
        sys.stderr.write(USAGE)
        return 2
    # PID 1 of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")

    # Imported late: `health` runs every second and must not load a database driver.
    if command == ["health"]:
        from . import health

        return health.main(argv[2:])
    if os.environ.get("FAIL_START") == "1":
        sys.stderr.write("marketplace: refusing to start, because FAIL_START=1\n")
        return 1
    try:
        config = Config.from_environment()
    except ConfigError as error:
        sys.stderr.write(f"marketplace: {error}\n")
        return 1
    if command == ["web"]:
        from . import web

        return web.main(config)
    if command == ["worker"]:
        from . import worker

        return worker.main(config)
    from . import migrate

    return migrate.main(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
