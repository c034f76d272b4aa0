"""`python -m provider`: a provider, set up by its environment."""

import sys

from common.errors import SettingsError
from common.settings import read_settings
from provider.agent import run
from provider.settings import ProviderSettings

if __name__ == "__main__":
    try:
        settings = read_settings(ProviderSettings)
    except SettingsError as exc:
        print(f"ghub provider: {exc}", file=sys.stderr)  # noqa: T201 - the one line for the person who started it
        sys.exit(2)
    sys.exit(run(settings))
