"""What our own OpenAPI document says of bodies that are read as bytes."""

from pydantic import BaseModel


def documented(body: type[BaseModel]) -> dict[str, object]:
    """A route's `openapi_extra`: this is the JSON body that it takes."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}
