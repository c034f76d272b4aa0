"""`python -m ghub.connect`: a front as its environment sets it up."""

import sys

from common.process import main
from ghub.connect.server import run
from ghub.connect.settings import ConnectSettings

if __name__ == "__main__":
    sys.exit(main("connect", ConnectSettings, run))
