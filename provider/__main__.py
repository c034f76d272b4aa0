"""`python -m provider`: a provider, set up by its environment and its file."""

import sys
from functools import partial

from common.process import begin
from provider.agent import run
from provider.config.reading import read_configuration, start

if __name__ == "__main__":
    sys.exit(begin("provider", read_configuration, partial(start, run=run)))
