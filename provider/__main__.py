"""`python -m provider`: a provider, set up by its environment."""

import sys

from pydantic import ValidationError

from common.settings import explain
from provider.agent import run
from provider.settings import ProviderSettings

if __name__ == "__main__":
    try:
        settings = ProviderSettings()
    except ValidationError as exc:
        print(f"ghub provider: {explain(exc)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    sys.exit(run(settings))
