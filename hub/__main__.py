"""`python -m hub`: a hub, set up by its environment."""

import sys

from common.errors import SettingsError
from common.settings import read_settings
from hub.server import run
from hub.settings import HubSettings

if __name__ == "__main__":
    try:
        settings = read_settings(HubSettings)
    except SettingsError as exc:
        print(f"ghub hub: {exc}", file=sys.stderr)  # noqa: T201 - the one line for the person who started it
        sys.exit(2)
    sys.exit(run(settings))
