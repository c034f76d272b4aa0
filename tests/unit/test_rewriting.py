"""A body whose model has another name at the engines: it alone changes."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from hub.api.bodies import check_body
from hub.errors import InvalidRequest
from hub.requests.rewriting import with_model

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("model"), inner), max_leaves=8
)
NAMES = st.text(min_size=1)


class Body(BaseModel):
    model: str


@pytest.mark.parametrize(
    "body",
    [
        '{"model":@}',
        ' { "n" : 1 , "model" :\t@ , "x" : [ ] } \n',
        '{"seed":123456789012345678901234567890,"model":@}',
        '{"model":@,"top_p":0.10000000000000000001,"t":1e400}',
        '{"x":1,"x":2,"model":@,"x":3}',
        '{"mod\\u0065l":@}',
        '{"tool":{"model":"a"},"say":"\\"model\\":\\"a\\"","model":@}',
        '{"model":@,"é":"\\u00e9 \\ud83d\\ude00 😀"}',
        '{"other":"model"}',
    ],
)
def test_only_the_name_of_the_model_changes(body: str) -> None:
    asked, real = body.replace("@", '"a"'), body.replace("@", '"b:1b/c\\"d"')
    assert with_model(asked.encode(), 'b:1b/c"d').decode() == real


def test_a_model_that_is_named_twice_is_changed_twice() -> None:
    assert with_model(b'{"model":{"model":"c"},"model":"a"}', "b") == b'{"model":"b","model":"b"}'


@given(st.lists(st.tuples(st.text() | st.just("model"), VALUES)), NAMES, NAMES, st.booleans(), st.integers(0, 4))
def test_every_other_member_stays_as_it_was(
    members: list[tuple[str, object]], asked: str, real: str, is_ascii: bool, indent: int
) -> None:
    def written(model: object) -> bytes:
        pairs = [(name, model if name == "model" else value) for name, value in [*members, ("model", model)]]
        inside = ",".join(
            f"{json.dumps(name, ensure_ascii=is_ascii)}{' ' * indent}:"
            f"{json.dumps(value, ensure_ascii=is_ascii, indent=indent or None)}"
            for name, value in pairs
        )
        return f"{{{inside}}}".encode()

    assert json.loads(with_model(written(asked), real)) == json.loads(written(real))


@given(st.binary(max_size=200) | st.text().map(str.encode), st.sampled_from([b"", b'{"model":"a",', b'{"model":"a"}']))
def test_whatever_a_hub_takes_for_a_request_can_be_rewritten(garbage: bytes, head: bytes) -> None:
    body = head + garbage
    try:
        check_body(Body, body)
    except InvalidRequest:
        return
    assert check_body(Body, with_model(body, "b")).model == "b"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"model"', b'{"model":', b'{"model":"a"', b'{"a" "b"}', b'{"a":1 "b":2}', b"\xff"]
)
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        with_model(body, "b")


def test_a_number_of_any_length_passes() -> None:
    digits = "9" * 100_000
    assert with_model(f'{{"n":{digits},"model":"a"}}'.encode(), "b") == f'{{"n":{digits},"model":"b"}}'.encode()


def test_a_body_of_more_fields_than_any_api_has_is_refused_at_once() -> None:
    """64 MiB of them took 36 s, in which the hub answered nobody."""
    body = b'{"model":"a"' + b',"a":0' * 4_000_000 + b"}"
    began_at = time.monotonic()
    with pytest.raises(InvalidRequest) as refused:
        with_model(body, "b")
    assert refused.value.code == "too_many_parts"
    assert time.monotonic() - began_at < 1
