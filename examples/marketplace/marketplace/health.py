"""The container's own health check, without curl: exit 0 when healthy, 1 when not."""

import http.client
import os
import sys
import time

# The worker touches this file in every round of its loop; see worker.py.
ALIVE_FILE = "/tmp/worker-alive"
ALIVE_SECONDS = 30


def web() -> str | None:
    """None if `/readyz` answers 200, else what is wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT") or 8000), timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    return None if response.status == 200 else f"{response.status} {body}"


def worker() -> str | None:
    """None if the worker's loop went round lately, else what is wrong."""
    try:
        age = time.time() - os.stat(ALIVE_FILE).st_mtime
    except OSError as error:
        return f"the worker has not started: {error}"
    return None if age < ALIVE_SECONDS else f"the worker is silent for {age:.0f} s"


def main(arguments: list[str]) -> int:
    problem = worker() if arguments == ["worker"] else web()
    if problem:
        sys.stderr.write(f"marketplace: {problem}\n")
    return 1 if problem else 0
