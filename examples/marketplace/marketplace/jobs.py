"""The names in Redis. A job is the decimal id of a stored message.

The web process pushes to QUEUE; the worker moves a job to PROCESSING (`BLMOVE`) and removes it there when it is done, so
that a crash at any point loses nothing. All keys share one prefix, so that a Redis ACL can fence the application in.
"""

QUEUE = "app:jobs"
PROCESSING = "app:jobs:processing"
# The channel on which every process hears which update was stored.
STORED = "app:stored"
