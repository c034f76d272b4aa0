"""Short looks at what listens on an address. Every expected failure is a plain no."""

import asyncio
from contextlib import suppress

import httpx2
from pydantic import SecretStr

_TIMEOUT_S = 2.0


def http_client() -> httpx2.AsyncClient:
    """Make the client that the probes share: no proxy, and a connection a call, so that no hub hides behind another."""
    return httpx2.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))


async def is_ok(client: httpx2.AsyncClient, url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return (await client.get(url)).status_code == httpx2.codes.OK
    except httpx2.RequestError:
        return False


async def answers(client: httpx2.AsyncClient, url: str) -> bool:
    """Whether a GET is answered by an HTTP server, whatever it says."""
    try:
        await client.get(url)
    except httpx2.RequestError:
        return False
    return True


async def listed(client: httpx2.AsyncClient, url: str, field: str, name: str) -> list[str]:
    """Return `[entry[name] for entry in body[field]]` of a JSON answer, or nothing if it is not of that shape."""
    try:
        answer = await client.get(url)
        return [str(entry[name]) for entry in answer.json()[field] or ()]
    except (httpx2.RequestError, ValueError, KeyError, TypeError):
        return []


async def served(client: httpx2.AsyncClient, hub_url: str, admin_token: SecretStr) -> list[str]:
    """Return the models that live nodes serve; asked as the operator, since clients may need a key for that."""
    headers = {"authorization": f"Bearer {admin_token.get_secret_value()}"}
    try:
        answer = await client.get(f"{hub_url}/api/registry", headers=headers)
        return [str(model["id"]) for model in answer.json()["models"] if model["nodes"]]
    except (httpx2.RequestError, ValueError, KeyError, TypeError):
        return []


async def pongs(port: int, user: str, password: SecretStr) -> bool:
    """Whether a broker on 127.0.0.1 lets a user in and answers PING (it does not while it still reads its file)."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"AUTH {user} {password.get_secret_value()}\r\nPING\r\n".encode())
                return [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except OSError:  # TimeoutError is one
        return False
