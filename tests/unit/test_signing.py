"""Signatures: only who holds a key can make a job, and no byte of it can be changed or moved unseen."""

import hmac
from dataclasses import fields, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from common.errors import SettingsError, SignatureError
from common.signing import SigningKeys, canonical
from common.types import ModelId, RequestId
from common.wire import Job
from tests.unit.strategies import JOBS, NAMES, SIGNED_FIELDS

ALICE = SigningKeys.parse(SecretStr("alice:0123456789abcdef"))
BOB = SigningKeys.parse(SecretStr("bob:fedcba9876543210"))
BOTH = SigningKeys.parse(SecretStr("bob:fedcba9876543210,alice:0123456789abcdef"))
UNSIGNED = SigningKeys.parse(None)
SIGNED_PARTS = [field.name for field in fields(Job) if field.name != "sig"]
PAIRS = st.lists(st.tuples(st.sampled_from(SIGNED_FIELDS), st.binary(max_size=30)), max_size=5)


def altered(part: str, job: Job, other: Job) -> Job:
    """The job with one part of another, its signature kept."""
    return replace(job, **{part: getattr(other, part)})


class TestJobs:
    @given(JOBS)
    def test_a_signed_job_is_believed_after_its_journey(self, job: Job) -> None:
        Job.from_fields(job.signed(ALICE).to_fields()).verify(ALICE)

    def test_hubs_and_providers_of_different_versions_sign_the_same_bytes(self) -> None:
        """The form that the module's head describes, byte for byte: whoever changes it cuts a grid in two."""
        job = Job(
            RequestId("r1"), 2, ModelId("m:1b"), "/v1/chat", stream=False, body=b"a\n:b", reply="r{h}:r1", deadline_ms=9
        )
        form = (
            b"v:1:1\nid:2:r1\nattempt:1:2\nmodel:4:m:1b\nendpoint:8:/v1/chat\nstream:1:0\n"
            b"body:4:a\n:b\nreply:7:r{h}:r1\ndeadline:1:9\ntrace:0:\n"
        )
        digest = hmac.new(b"0123456789abcdef", form, "sha256").hexdigest()
        assert job.signed(ALICE).sig == f"alice:{digest}"

    @given(JOBS, JOBS, st.sampled_from(SIGNED_PARTS))
    def test_any_altered_part_is_seen(self, job: Job, other: Job, part: str) -> None:
        assume(getattr(job, part) != getattr(other, part))
        with pytest.raises(SignatureError):
            altered(part, job.signed(ALICE), other).verify(ALICE)

    @given(JOBS, st.permutations(["id", "model", "endpoint", "reply", "trace"]))
    def test_texts_that_change_places_are_seen(self, job: Job, order: list[str]) -> None:
        signed = job.signed(ALICE)
        texts = [getattr(job, name) for name in ("id", "model", "endpoint", "reply", "trace")]
        swapped = replace(signed, **dict(zip(order, texts, strict=True)))
        assume(swapped != signed)
        with pytest.raises(SignatureError):
            swapped.verify(ALICE)

    @given(JOBS, NAMES)
    def test_bytes_that_slip_from_one_field_into_the_next_are_seen(self, job: Job, slipping: str) -> None:
        signed = replace(job, model=ModelId(job.model + slipping)).signed(ALICE)
        with pytest.raises(SignatureError):
            replace(signed, model=job.model, endpoint=slipping + job.endpoint).verify(ALICE)

    def test_a_body_that_imitates_the_canonical_form_fools_nobody(self) -> None:
        job = Job("1", 1, "m", "/v1", stream=False, body=b"safe", reply="mine", deadline_ms=1)  # type: ignore[arg-type]
        trick = b"4:safe\nreply:5:yours"
        forged = replace(job.signed(ALICE), body=trick, reply="")
        with pytest.raises(SignatureError):
            forged.verify(ALICE)

    @given(JOBS)
    def test_the_old_signature_is_no_good_for_the_next_attempt(self, job: Job) -> None:
        with pytest.raises(SignatureError):
            replace(job.signed(ALICE), attempt=job.attempt + 1).verify(ALICE)

    @given(JOBS, st.text(max_size=80))
    def test_no_made_up_signature_passes(self, job: Job, sig: str) -> None:
        with pytest.raises(SignatureError):
            replace(job, sig=sig).verify(ALICE)

    @given(JOBS, st.text(max_size=70))
    def test_no_made_up_digest_of_a_known_key_passes(self, job: Job, digest: str) -> None:
        with pytest.raises(SignatureError):
            replace(job, sig=f"alice:{digest}").verify(ALICE)

    @pytest.mark.parametrize("cut", [0, 1, 32, 63])
    def test_a_shortened_digest_does_not_pass(self, cut: int) -> None:
        digest = ALICE.sign(b"payload").removeprefix("alice:")[:cut]
        with pytest.raises(SignatureError):
            ALICE.verify(b"payload", f"alice:{digest}")


class TestKeys:
    def test_the_same_id_with_another_secret_does_not_pass(self) -> None:
        mallory = SigningKeys.parse(SecretStr("alice:ffffffffffffffff"))
        with pytest.raises(SignatureError, match="does not match"):
            ALICE.verify(b"payload", mallory.sign(b"payload"))

    def test_an_unknown_key_is_named(self) -> None:
        with pytest.raises(SignatureError, match="unknown key 'bob'"):
            ALICE.verify(b"payload", BOB.sign(b"payload"))

    def test_a_missing_signature_is_told_as_such(self) -> None:
        with pytest.raises(SignatureError, match="not signed"):
            ALICE.verify(b"payload", UNSIGNED.sign(b"payload"))

    def test_keys_rotate_without_a_lost_job(self) -> None:
        """First providers learn the new key, then hubs sign with it, then the old one goes."""
        old_job, new_job = ALICE.sign(b"payload"), BOTH.sign(b"payload")
        assert new_job.startswith("bob:")
        for job in (old_job, new_job):
            BOTH.verify(b"payload", job)
        BOB.verify(b"payload", new_job)
        with pytest.raises(SignatureError, match="unknown key 'alice'"):
            BOB.verify(b"payload", old_job)

    def test_without_keys_jobs_are_unsigned_and_all_pass(self) -> None:
        assert ALICE
        assert not UNSIGNED
        assert UNSIGNED.sign(b"payload") == ""
        UNSIGNED.verify(b"payload", "")
        UNSIGNED.verify(b"payload", "alice:rubbish")

    @given(PAIRS)
    def test_the_canonical_form_can_be_read_in_one_way_only(self, pairs: list[tuple[bytes, bytes]]) -> None:
        assert read_back(canonical(pairs)) == pairs


class TestSetting:
    @pytest.mark.parametrize("setting", [None, SecretStr(""), SecretStr(" "), SecretStr(" , ,")])
    def test_nothing_set_means_no_keys(self, setting: SecretStr | None) -> None:
        assert SigningKeys.parse(setting) == SigningKeys()

    def test_a_lone_secret_is_a_key(self) -> None:
        keys = SigningKeys.parse(SecretStr("0123456789abcdef"))
        keys.verify(b"payload", keys.sign(b"payload"))
        assert keys.sign(b"payload").startswith("k1:")

    def test_spaces_and_empty_places_do_no_harm(self) -> None:
        assert SigningKeys.parse(SecretStr(" bob:fedcba9876543210 ,, alice:0123456789abcdef,")) == BOTH

    @pytest.mark.parametrize("setting", ["a:b:0123456789abcdef0", "k1:0123456789abcdef:tail-of-it-long"])
    def test_a_key_with_colons_signs_what_it_verifies(self, setting: str) -> None:
        keys = SigningKeys.parse(SecretStr(setting))
        keys.verify(b"payload", keys.sign(b"payload"))

    @pytest.mark.parametrize(
        "setting", ["short", "k1:short", "k1:", ":0123456789abcdef", "k1:0123456789abcde", "a:0123456789abcdef,b:short"]
    )
    def test_a_key_that_cannot_work_is_refused_unseen(self, setting: str) -> None:
        with pytest.raises(SettingsError, match="GHUB_SIGNING_KEY") as refusal:
            SigningKeys.parse(SecretStr(setting))
        assert "0123456789" not in str(refusal.value)

    def test_an_id_twice_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="twice"):
            SigningKeys.parse(SecretStr("a:0123456789abcdef,a:fedcba9876543210"))


def read_back(form: bytes) -> list[tuple[bytes, bytes]]:
    """Read `name:length:value\\n`…: what any other implementation would do."""
    pairs = []
    while form:
        name, length, rest = form.split(b":", 2)
        value, newline, form = rest[: int(length)], rest[int(length) : int(length) + 1], rest[int(length) + 1 :]
        assert newline == b"\n"
        pairs.append((name, value))
    return pairs
