"""HMACs of direct calls: good for one key, one node, one path, one body, and for a while."""

import re
import string
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from common.direct import SKEW_S, DirectCall, Nonce, sign_direct, verify_direct
from common.errors import DirectRefused, SettingsError
from common.signing import SigningKeys
from common.types import DirectRefusal

ALICE = SigningKeys.parse(SecretStr("alice:0123456789abcdef"))
BOB = SigningKeys.parse(SecretStr("bob:fedcba9876543210"))
FALSE_ALICE = SigningKeys.parse(SecretStr("alice:fedcba9876543210"))
BOTH = SigningKeys.parse(SecretStr("bob:fedcba9876543210,alice:0123456789abcdef"))
NO_KEYS = SigningKeys()
CALL = DirectCall("gpu-1", "/v1/chat/completions", "5" * 64)
NOW_S = 1_700_000_000
WINDOW_S = 300
HEADER = sign_direct(ALICE, CALL, NOW_S)
CALLS = st.builds(DirectCall, st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))


def verify(header: str, *, keys: SigningKeys = ALICE, call: DirectCall = CALL, age_s: float = 0) -> Nonce:
    return verify_direct(keys, call, header, now_s=NOW_S + age_s, window_s=WINDOW_S)


def refusal(header: str, *, keys: SigningKeys = ALICE, call: DirectCall = CALL, age_s: float = 0) -> DirectRefusal:
    with pytest.raises(DirectRefused) as refused:
        verify(header, keys=keys, call=call, age_s=age_s)
    assert "0123456789abcdef" not in str(refused.value)
    return refused.value.code


class TestGood:
    def test_a_call_signed_with_a_key_is_believed_by_who_knows_it(self) -> None:
        assert verify(HEADER) == Nonce("alice", HEADER.split(":")[3])
        assert verify(HEADER, keys=BOTH).key_id == "alice"

    def test_the_first_of_several_keys_signs(self) -> None:
        assert verify(sign_direct(BOTH, CALL, NOW_S), keys=BOB).key_id == "bob"

    @given(CALLS)
    def test_whatever_is_called(self, call: DirectCall) -> None:
        verify(sign_direct(ALICE, call, NOW_S), call=call)

    def test_no_two_are_the_same(self) -> None:
        assert len({verify(sign_direct(ALICE, CALL, NOW_S)) for _ in range(100)}) == 100

    @pytest.mark.parametrize("age_s", [-SKEW_S, 0, 0.5, WINDOW_S])
    def test_it_is_good_from_a_little_in_the_future_until_the_window_ends(self, age_s: float) -> None:
        verify(HEADER, age_s=age_s)


class TestRefused:
    @given(CALLS, CALLS)
    def test_for_any_other_call_than_it_was_made_for(self, call: DirectCall, other: DirectCall) -> None:
        assume(call != other)
        assert refusal(sign_direct(ALICE, call, NOW_S), call=other) is DirectRefusal.WRONG

    @pytest.mark.parametrize(
        "other",
        [
            replace(CALL, node="gpu-2"),
            replace(CALL, endpoint="/v1/completions"),
            replace(CALL, body_sha256="6" * 64),
            DirectCall("gpu-1\nendpoint:20:/v1/chat/completions", "", CALL.body_sha256),
        ],
        ids=["node", "endpoint", "body", "a field within another"],
    )
    def test_with_any_part_exchanged(self, other: DirectCall) -> None:
        assert refusal(HEADER, call=other) is DirectRefusal.WRONG

    def test_with_another_secret_of_the_same_id(self) -> None:
        assert refusal(HEADER, keys=FALSE_ALICE) is DirectRefusal.WRONG

    def test_with_the_secret_of_another_id(self) -> None:
        moved = sign_direct(FALSE_ALICE, CALL, NOW_S).replace(":alice:", ":bob:")
        verify(moved, keys=BOB)  # the id says which secret, no more
        assert refusal(HEADER.replace(":alice:", ":bob:"), keys=BOTH) is DirectRefusal.WRONG

    def test_with_a_key_that_nobody_knows(self) -> None:
        assert refusal(HEADER, keys=BOB) is DirectRefusal.UNKNOWN_KEY

    def test_when_no_direct_keys_are_set(self) -> None:
        """Without keys every job passes; no direct call may."""
        assert refusal(HEADER, keys=NO_KEYS) is DirectRefusal.DIRECT_KEYS_NOT_SET
        assert refusal("", keys=NO_KEYS) is DirectRefusal.DIRECT_KEYS_NOT_SET

    @pytest.mark.parametrize("age_s", [WINDOW_S + 0.1, 10**6, -SKEW_S - 0.1, -(10**6)])
    def test_too_late_and_too_early(self, age_s: float) -> None:
        assert refusal(HEADER, age_s=age_s) is DirectRefusal.EXPIRED

    def test_a_time_cannot_be_renewed(self) -> None:
        assert refusal(HEADER.replace(str(NOW_S), str(NOW_S + 600)), age_s=600) is DirectRefusal.WRONG

    def test_a_nonce_cannot_be_renewed(self) -> None:
        assert refusal(HEADER.replace(HEADER.split(":")[3], "n" * 22)) is DirectRefusal.WRONG

    def test_who_has_no_key_learns_nothing_of_the_time(self) -> None:
        assert refusal(sign_direct(FALSE_ALICE, CALL, NOW_S), age_s=10**6) is DirectRefusal.WRONG

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "v1",
            "Bearer x",
            HEADER.removeprefix("v1:"),
            HEADER.replace("v1:", "v2:"),
            HEADER + "0",
            HEADER[:-1],
            HEADER + "\n",
            " " + HEADER,
            HEADER.replace(":alice:", "::"),
            HEADER.replace(":alice:", ":al ice:"),
            HEADER.replace(":alice:", ":" + "a" * 65 + ":"),
            HEADER.replace(str(NOW_S), "-1"),
            HEADER.replace(str(NOW_S), "1" * 13),
            HEADER.replace(str(NOW_S), "\u0661\u0662"),
            HEADER.replace(HEADER.split(":")[3], "short"),
            HEADER.replace(HEADER.split(":")[3], "n" * 65),
            HEADER.replace(HEADER.split(":")[3], "nonce with spaces in"),
            HEADER.replace(HEADER.split(":")[4], "A" * 64),
            HEADER.replace(HEADER.split(":")[4], "\u00e9" * 64),
        ],
        ids=str.__len__,  # each run has a nonce of its own, which is no name for a test
    )
    def test_what_has_not_the_form(self, header: str) -> None:
        assert refusal(header) is DirectRefusal.MALFORMED

    @given(st.integers(0, len(HEADER) - 1), st.sampled_from(string.printable))
    def test_one_changed_character_spoils_it(self, at: int, character: str) -> None:
        assume(HEADER[at] != character)
        with pytest.raises(DirectRefused):
            verify(HEADER[:at] + character + HEADER[at + 1 :])

    @given(st.text(max_size=300))
    def test_any_text_is_refused_without_a_crash(self, text: str) -> None:
        with pytest.raises(DirectRefused):
            verify(text)


class TestKeys:
    @pytest.mark.parametrize("setting", ["k1:short", "k1:0123456789abcdef,k1:fedcba9876543210"])
    def test_a_bad_setting_is_named_by_its_own_variable_and_not_shown(self, setting: str) -> None:
        with pytest.raises(SettingsError, match=r"^GHUB_HUB_DIRECT_KEYS: ") as refused:
            SigningKeys.parse(SecretStr(setting), "GHUB_HUB_DIRECT_KEYS")
        assert not re.search("short|0123456789abcdef", str(refused.value))
