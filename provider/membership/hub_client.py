"""The hub's HTTP, as a provider needs it: where reports go and HMACs are checked.

httpx2 serves here, where comfort counts and a call comes once in minutes; the token path has its own client.
"""

import asyncio
import hashlib
from types import TracebackType
from typing import Self

import httpx2
from pydantic import ValidationError

from common.registration import Registration, RegistrationRequest
from common.report import HealthReport
from common.types import NodeId
from provider.errors import HmacRefused, HubRefused, HubUnreachable, RegistrationRefused
from provider.settings import ProviderSettings


class HubClient:
    """Calls one hub with this provider's token. Each call has a time limit and is made once."""

    def __init__(self, settings: ProviderSettings) -> None:
        headers = {}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
        self._url = (settings.hub_url or "").rstrip("/")
        self._timeout_s = settings.report.timeout_s
        self._client = httpx2.AsyncClient(headers=headers, timeout=self._timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    @property
    def is_set(self) -> bool:
        """Whether there is a hub to call."""
        return bool(self._url)

    async def report(self, report: HealthReport) -> None:
        """Send a health report.

        Raises:
            HubUnreachable: no answer, or one of a server in trouble.
            HubRefused: it wants no report like this, or not from us.
        """
        answer = await self._post("/api/provider/health", report.model_dump_json().encode())
        if answer.status_code != 204:
            raise HubRefused(f"the hub answered {answer.status_code} to a report: {answer.text[:200]}")

    async def register(self, request: RegistrationRequest) -> Registration:
        """Join the grid, or stay in it; the answer holds secrets.

        Raises:
            RegistrationRefused: it does not let this provider in; `code` says why.
            HubUnreachable: no answer, or one of a server in trouble.
            HubRefused: what it answers is no registration.
        """
        answer = await self._post("/api/provider/register", request.model_dump_json().encode())
        if answer.status_code == httpx2.codes.OK:
            try:
                return Registration.model_validate_json(answer.content)
            except ValidationError:  # which would show what it found: perhaps secrets
                raise HubRefused(f"what {self._url} answers to a registration is none") from None
        code, message = _refusal(answer)
        if answer.status_code in PASSING:
            raise HubUnreachable(f"{self._url} answered {answer.status_code} to a registration: {message}")
        raise RegistrationRefused(
            f"{self._url} does not let {request.name!r} in: {message} ({code or answer.status_code})",
            status=answer.status_code,
            code=code,
            retry_after_s=_seconds(answer.headers.get("Retry-After", "")),
        )

    async def check_hmac(self, given: str, node: NodeId, endpoint: str, body: bytes) -> None:
        """Ask whether a direct caller may have this call.

        Raises:
            HmacRefused: no; `code` says why.
            HubUnreachable: no answer, or one of a server in trouble.
            HubRefused: it does not answer this provider's questions.
        """
        question = {"hmac": given, "node": node, "endpoint": endpoint, "body_sha256": hashlib.sha256(body).hexdigest()}
        answer = await self._post("/api/provider/validate_hmac", question)
        verdict = _object(answer)
        if answer.status_code == 200 and verdict.get("valid") is True:
            return
        code = verdict.get("code")
        if answer.status_code == 401 and verdict.get("valid") is False and isinstance(code, str):
            if code in OURS:
                raise HubRefused(f"the hub refuses this provider's questions: {code}")
            raise HmacRefused(code)
        raise HubRefused(f"the hub answered {answer.status_code} to the question about an HMAC")

    async def _post(self, path: str, body: bytes | dict[str, str]) -> httpx2.Response:
        try:
            # The client's own limit begins anew with each byte that comes.
            async with asyncio.timeout(self._timeout_s):
                if isinstance(body, bytes):
                    headers = {"Content-Type": "application/json"}
                    answer = await self._client.post(self._url + path, content=body, headers=headers)
                else:
                    answer = await self._client.post(self._url + path, json=body)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as exc:
            raise HubUnreachable(f"{self._url}: {str(exc) or type(exc).__name__}") from exc
        if answer.status_code >= 500:
            raise HubUnreachable(f"{self._url}{path} answered {answer.status_code}: {_refusal(answer)[1]}")
        return answer


OURS = frozenset({"invalid_token", "provider_tokens_not_set", "direct_keys_not_set"})
"""Why a hub says no that is no fault of the caller."""


PASSING = frozenset({408, 425, 429})
"""Statuses of a refusal that has nothing to do with who asks."""
MAX_MESSAGE_CHARS = 300


def _refusal(answer: httpx2.Response) -> tuple[str, str]:
    """Code and message of an error in the shape of OpenAI's API; empty and the plain text where it is no such error."""
    error = _object(answer).get("error")
    if not isinstance(error, dict):
        return "", answer.text[:MAX_MESSAGE_CHARS]
    code, message = error.get("code"), error.get("message")
    return str(code or ""), str(message or "")[:MAX_MESSAGE_CHARS]


def _seconds(header: str) -> float | None:
    return float(header) if header.isascii() and header.isdigit() else None


def _object(answer: httpx2.Response) -> dict[str, object]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
