"""Reads a request's body: as bytes, within the limit, checked as far as a hub must know it."""

import asyncio
from typing import TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from common.errors import BodyTooLong, ClientGone
from common.serving.bodies import collect_body
from hub.errors import BodyTimeout, BodyTooLarge, InvalidRequest

Shape = TypeVar("Shape", bound=BaseModel)

UNSUPPORTED = "unsupported_parameter"
"""The type of a PydanticCustomError for a field that is right and asks for what a hub doesn't have."""
MOST_NESTED = 2_000_000
MOST_ITEMS = 8_000_000
"""So many lists and objects, and members of them, a body may hold. Without a limit 64 MiB of `{},` cost a hub 2.5 GiB
and two seconds in which it answers nobody; the longest prompt that a model takes has far fewer. Signs within texts
count too: to tell them apart would be to read the body."""
_OF_VALUES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
_OF_FORMS = ("too_short", "too_long", "string_too_short", "string_too_long", "string_pattern_mismatch")
_CODES = {
    "missing": "missing_required_parameter",
    UNSUPPORTED: UNSUPPORTED,
    **dict.fromkeys((*_OF_VALUES, *_OF_FORMS), "invalid_value"),
}
"""OpenAI's codes for pydantic's; what is not among these has the wrong type."""


async def read_body(request: Request, limit_bytes: int, limit_s: float) -> bytes:
    """The body as the client sent it.

    Raises:
        BodyTooLarge: it is longer than allowed; the rest is not read.
        BodyTimeout: it did not come within the time allowed.
        InvalidRequest: the connection ended within it.
    """
    try:
        async with asyncio.timeout(limit_s):
            return await collect_body(request, limit_bytes)
    except TimeoutError as exc:
        raise BodyTimeout(f"the body did not come within {limit_s:g} s") from exc
    except BodyTooLong as exc:
        raise BodyTooLarge(str(exc)) from exc
    except ClientGone as exc:
        raise InvalidRequest(str(exc)) from exc


async def read_checked(request: Request, shape: type[Shape], limit_bytes: int, limit_s: float) -> Shape:
    """The part of a request's body that the hub reads; raises what `read_body` and `check_body` raise."""
    return check_body(shape, await read_body(request, limit_bytes, limit_s))


def check_body(shape: type[Shape], body: bytes) -> Shape:
    """The part of a body that the hub reads; all else is the engine's to judge.

    Raises:
        InvalidRequest: it is no JSON object, has too many parts, or a field has the wrong type or a value that none may
            have; names the first such field.
    """
    if body.count(b"{") + body.count(b"[") > MOST_NESTED or body.count(b",") > MOST_ITEMS:
        raise InvalidRequest("The body has more parts than any request needs.", code="too_many_parts")
    try:
        if b"NaN" in body or b"Infinity" in body:
            orjson.loads(body)  # pydantic's reader, which is faster, lets these pass as numbers
        return shape.model_validate_json(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"The body is not valid JSON: {exc}", code="invalid_json") from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        # behind the field's name stand places in lists, and names of a union's members that mean nothing to a client
        param = ".".join(str(part) for at, part in enumerate(first["loc"]) if at == 0 or isinstance(part, int)) or None
        if first["type"] == "json_invalid":
            raise InvalidRequest(f"The body is not valid JSON: {first['msg']}", code="invalid_json") from exc
        code = _CODES.get(first["type"], "invalid_type")
        raise InvalidRequest(f"{param or 'The body'}: {first['msg']}", code=code, param=param) from exc
