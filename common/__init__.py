"""What hub and provider share: words, keys, wire, signatures and the broker's verbs. Knows neither of them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ghubai")
except PackageNotFoundError:  # a bare checkout that nobody installed
    __version__ = "0+unknown"
