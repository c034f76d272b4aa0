"""`python -m hub`: a hub, set up by its environment."""

import sys

from common.process import main
from hub.server import run
from hub.settings import HubSettings

if __name__ == "__main__":
    sys.exit(main("hub", HubSettings, run))
