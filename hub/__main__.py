"""`python -m hub`: a hub, set up by its environment."""

import sys

from pydantic import ValidationError

from common.settings import explain
from hub.server import run
from hub.settings import HubSettings

if __name__ == "__main__":
    try:
        settings = HubSettings()
    except ValidationError as exc:
        print(f"ghub hub: {explain(exc)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    sys.exit(run(settings))
