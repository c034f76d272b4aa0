"""Ports for servers that must be told theirs before they start."""

import itertools
import os
import random
import socket

FIRST, EACH = 20_000, 1_500
"""Below the ports that systems lend to outgoing connections (from 32,768 on Linux): any of these may take one of those
between the choice and the start of the server. Each worker of the suite has a part of its own."""

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_places = itertools.count(random.randrange(EACH))


def free_port() -> int:
    """A port on which nothing listens now, and that was not given away for a long time."""
    for place in itertools.islice(_places, EACH):
        port = FIRST + _worker * EACH + place % EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
