"""What our own OpenAPI document says of bodies that are read as bytes."""

from pydantic import BaseModel


def documented(body: type[BaseModel], path: str = "") -> dict[str, object]:
    """A route's `openapi_extra`: this is the JSON body that it takes.

    Args:
        body: what it looks like.
        path: of the route, where the body's schema has parts that it refers to: that leads through the whole document.
    """
    place = f"#/paths/{path.replace('/', '~1')}/post/requestBody/content/application~1json/schema"
    schema = body.model_json_schema(ref_template=f"{place}/$defs/{{model}}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
