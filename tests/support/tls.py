"""Certificates for servers on loopback and for their clients, by an authority that only a test knows."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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


@contextmanager
def ended_before(url: str, identity: Identity) -> Iterator[str]:
    """Something that ends TLS before a server on loopback, as a proxy does; its own URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.cert, identity.key)
    inner = urlsplit(url)
    loop = asyncio.new_event_loop()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(inner.hostname, inner.port)
        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.wait([*tasks], timeout=3) if tasks else None
