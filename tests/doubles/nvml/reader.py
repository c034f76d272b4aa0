"""Reads the GPUs when told to: a line on stdin for each reading, a line of JSON on stdout with it.

`python -m tests.doubles.nvml.reader [retry_gap_s]`. It is a process of its own because a library is found by the
environment that a process began with, and `pynvml` keeps it loaded.
"""

import json
import sys
from dataclasses import asdict

from provider.gate.nvml import NvmlProbe


def main() -> None:
    """Answer until stdin closes. `close` ends the probe's session in between."""
    probe = NvmlProbe(retry_gap_s=float(sys.argv[1]))
    for order in sys.stdin:
        if order == "close\n":
            probe.close()
            print("null", flush=True)
        else:
            print(json.dumps(asdict(probe.sample())), flush=True)
    probe.close()


if __name__ == "__main__":
    main()
