"""Reads what stands behind the question mark; errors name the parameter."""

from typing import Any

from fastapi import Request

from hub.errors import InvalidRequest


def number_in(request: Request, name: str, *, default: int, most: int) -> int:
    """A number from 1 to `most`; InvalidRequest if anything else is said."""
    said = request.query_params.get(name)
    if said is None:
        return default
    number = int(said) if said.isascii() and said.isdigit() and len(said) < 11 else 0
    if not 1 <= number <= most:
        raise InvalidRequest(f"{name}: expected a number from 1 to {most}", code="invalid_value", param=name)
    return number


def choice_in(request: Request, name: str, choices: tuple[str, ...]) -> str | None:
    """One of these words; None if nothing is said; InvalidRequest if anything else is."""
    said = request.query_params.get(name)
    if said is not None and said not in choices:
        raise InvalidRequest(f"{name}: expected one of {', '.join(choices)}", code="invalid_value", param=name)
    return said


def query_of(**schemas: dict[str, Any]) -> dict[str, Any]:
    """What a route's description in /openapi.json says of its query; each parameter may be left out."""
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in schemas.items()
    ]
    return {"parameters": parameters}
