"""Merge patches (RFC 7396): whoever applies them to the old state has the new one."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.overview.merge_patch import merge_patch

plain = st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
states = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), plain, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), plain | inner, max_size=3),
    max_leaves=12,
)


def applied(target: Any, patch: Any) -> Any:
    """What section 2 of the RFC says, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = applied(result.get(name), value)
    return result


@given(states, states)
def test_a_patch_makes_the_new_state_out_of_the_old_one(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert applied(before, merge_patch(before, after)) == after


@given(states)
def test_nothing_is_said_of_what_has_not_changed(state: dict[str, Any]) -> None:
    assert merge_patch(state, state) == {}


def test_only_what_changed_is_said() -> None:
    before = {"nodes": {"a": {"state": "idle", "slots": 4}, "b": {"state": "idle"}}, "at": 1}
    after = {"nodes": {"a": {"state": "busy", "slots": 4}, "c": {"state": "idle"}}, "at": 1}
    assert merge_patch(before, after) == {"nodes": {"a": {"state": "busy"}, "b": None, "c": {"state": "idle"}}}
