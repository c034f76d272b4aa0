"""Writes the table in docs/security.md of what a registered provider's broker user may do, as a broker tells it.

Run it as `uv run python -m docs.security_table`.
"""

import tempfile
from pathlib import Path

from tests.contract.acl_cases import table
from tests.support.brokers import BrokerProcess

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/security.md"
BEGIN = "<!-- made by docs/security_table.py -->"
END = "<!-- end -->"


def with_table(page: str, made: str) -> str:
    """The page with this table in place of its former one; ValueError if its marks are missing."""
    head, tail = page.index(BEGIN) + len(BEGIN), page.index(END)
    return f"{page[:head]}\n{made}\n{page[tail:]}"


def main() -> None:
    """Ask a Valkey that lives just for this."""
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerProcess("valkey", Path(folder))
        try:
            with broker.client() as admin:
                PAGE.write_text(with_table(PAGE.read_text(), table(admin)))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
