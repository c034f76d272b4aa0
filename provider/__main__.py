"""`python -m provider`: a provider, set up by its environment."""

import sys

from common.process import main
from provider.agent import run
from provider.settings import ProviderSettings

if __name__ == "__main__":
    sys.exit(main("provider", ProviderSettings, run))
