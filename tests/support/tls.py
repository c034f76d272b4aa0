"""Certificates for servers on loopback and for their clients, by an authority that only a test knows."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Identity:
    """A private key and the certificate that goes with it, as PEM files."""

    key: Path
    cert: Path


class Authority:
    """Issues certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / "ca.pem"
        """Its own certificate, by which the others are known."""
        self._ca.cert_pem.write_to_path(str(self.ca))

    def issue(self, *names: str) -> Identity:
        """For a server of these names or addresses, or a client."""
        issued = self._ca.issue_cert(*names)
        identity = Identity(self._folder / f"{names[0]}.key.pem", self._folder / f"{names[0]}.cert.pem")
        issued.private_key_pem.write_to_path(str(identity.key))
        identity.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        return identity
