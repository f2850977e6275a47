"""Which metadata store may have things deleted: the owner's own, as long as it never went back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import DataLoss
from hythe.gc_trust import OLDER, RESTORED, UNKNOWN, StoreMark, Trust, confirmed, from_text, heard, judge, to_text

OWN = StoreMark("a" * 32, era=2, revision=100, generation=7)
KNOWS = Trust(known=OWN)
MARKS = st.builds(
    StoreMark,
    st.sampled_from(["a" * 32, "b" * 32]),
    st.integers(1, 3),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(["", "p"]),
)


def test_new_owner_takes_the_first_store_it_hears() -> None:
    """On a fresh host collections work at once, and from then on only those of that store."""
    verdict = judge(Trust(virgin=True), OWN)
    assert (verdict.reason, verdict.trust.known) == ("", OWN)
    assert judge(verdict.trust, replace(OWN, store_id="b" * 32)).reason == UNKNOWN


def test_owner_with_content_of_unknown_origin_deletes_nothing() -> None:
    """A host that had images before it knew any store keeps them until somebody confirms."""
    assert judge(Trust(), OWN).reason == UNKNOWN
    assert judge(Trust(), OWN).trust == Trust()


def test_wrong_store_changes_nothing_for_the_right_one() -> None:
    """A fresh Redis that speaks once neither deletes nor takes anything away from the store that was there."""
    verdict = judge(KNOWS, StoreMark("b" * 32, era=1))
    assert verdict.reason == UNKNOWN
    assert judge(verdict.trust, replace(OWN, revision=101, generation=8)).reason == ""


def test_restored_store_deletes_nothing_until_confirmed() -> None:
    """After a restore everything that was made since the backup stays, until somebody confirms."""
    restored = replace(OWN, era=3, revision=50, generation=3)
    verdict = judge(KNOWS, restored)
    assert verdict.reason == RESTORED
    assert judge(verdict.trust, replace(restored, revision=900, generation=99)).reason == RESTORED
    assert judge(confirmed(restored), replace(restored, generation=4)).reason == ""


@pytest.mark.parametrize("older", [replace(OWN, era=1), replace(OWN, revision=99), replace(OWN, generation=6)])
def test_store_put_back_stays_suspicious_when_its_numbers_have_caught_up(older: StoreMark) -> None:
    """A copy of the database's file that was put back deletes nothing, however long it has run since."""
    verdict = judge(KNOWS, older)
    assert verdict.reason == OLDER
    later = StoreMark(OWN.store_id, OWN.era, 10_000, 10_000)
    assert judge(verdict.trust, later).reason == OLDER
    assert judge(confirmed(later), later).reason == ""


def test_same_collection_may_begin_again() -> None:
    """A begin that is repeated because its answer got lost makes nobody suspicious."""
    assert judge(KNOWS, OWN).reason == ""


@pytest.mark.parametrize("again", [replace(OWN, revision=101), replace(OWN, process="other")])
def test_copy_put_back_that_begins_the_same_collection_once_more_is_suspicious(again: StoreMark) -> None:
    """A copy from just before the last collection has as many of them, and deletes nothing all the same."""
    assert judge(KNOWS, again).reason == OLDER


def test_copy_put_back_before_the_next_collection_is_suspicious() -> None:
    """What was brought since the last collection is not deleted for a copy of the store from before that."""
    brought = heard(KNOWS, replace(OWN, revision=130))
    assert judge(brought, replace(OWN, revision=102, generation=8)).reason == OLDER
    assert judge(brought, replace(OWN, revision=131, generation=8)).reason == ""
    fresh = heard(Trust(virgin=True), replace(OWN, revision=130))
    assert judge(fresh, replace(OWN, revision=102, generation=8)).reason == OLDER
    assert judge(fresh, replace(OWN, store_id="b" * 32)).reason == UNKNOWN


def test_answers_that_overtake_a_begin_make_nobody_suspicious() -> None:
    """A lease that is made just after a collection began may be heard of before it, and an older one after it."""
    begin = replace(OWN, revision=101, generation=8)
    early = heard(KNOWS, replace(OWN, revision=102, generation=8))
    assert judge(early, begin).reason == ""
    late = heard(judge(KNOWS, begin).trust, replace(OWN, revision=90))
    assert judge(late, replace(begin, revision=103, generation=9)).reason == ""
    assert heard(Trust(), OWN) == Trust()
    assert heard(KNOWS, replace(OWN, era=3, revision=500)) == KNOWS


@given(st.booleans(), st.lists(MARKS, max_size=12))
def test_trusted_store_never_went_back(virgin: bool, heard: list[StoreMark]) -> None:
    """Whatever is heard, who may delete is one store alone, and at least as far as it ever was."""
    trust = Trust(virgin=virgin)
    trusted: list[StoreMark] = []
    for mark in heard:
        verdict = judge(from_text(to_text(trust)), mark)
        trust = verdict.trust
        if not verdict.reason:
            trusted.append(mark)
    assert len({(mark.store_id, mark.era) for mark in trusted}) <= 1
    assert [mark.revision for mark in trusted] == sorted(mark.revision for mark in trusted)
    assert [mark.generation for mark in trusted] == sorted(mark.generation for mark in trusted)
    assert virgin or not trusted


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"virgin":true,"known":[1],"suspicion":""}'])
def test_unreadable_trust_is_reported(text: str) -> None:
    """A damaged file of an owner never reads as trust."""
    with pytest.raises(DataLoss, match="which metadata store may delete here"):
        from_text(text)
