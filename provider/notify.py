"""What a service tells systemd: sd_notify(3) in plain sockets (docs/decisions/0006 says why no package does it).

Without systemd, that is without `NOTIFY_SOCKET`, every method does nothing. None raises: a service must not end
because its supervisor did not listen.
"""

import contextlib
import os
import socket
from collections.abc import Mapping

_PATIENCE_S = 1.0
"""How long a word that comes once waits for a manager that is too busy to listen. One that comes again waits for none:
it must not hold up the event loop."""


class ServiceNotifier:
    """Tells the service manager how this process stands. It reads its environment once, when it is made."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`; nothing is sent and nothing removed."""
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract address, which no environment could hold.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_interval_s = _watchdog_interval_s(environment)
        """How often `alive` must be called: half the manager's limit. None if there is no watchdog for this process."""

    def ready(self, status: str = "") -> None:
        """Start-up is over; with a status for people."""
        self._send("READY=1", *([f"STATUS={_line(status)}"] if status else []))

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Tell people in one line how it stands; `systemctl status` shows it."""
        self._send(f"STATUS={_line(text)}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1", patience_s=0)

    def _send(self, *assignments: str, patience_s: float = _PATIENCE_S) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError, ValueError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            sender.settimeout(patience_s)
            sender.connect(self._address)
            sender.send("\n".join(assignments).encode(errors="replace"))


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    try:
        limit_us = int(environment.get("WATCHDOG_USEC", ""))
        watched = int(environment.get("WATCHDOG_PID", "") or os.getpid())
    except ValueError:
        return None
    # The variables are inherited: in a child they speak of the parent.
    return limit_us / 2_000_000 if limit_us > 0 and watched == os.getpid() else None


def _line(text: str) -> str:
    """Text as one line: a line break would begin another assignment."""
    return " ".join(text.split())
