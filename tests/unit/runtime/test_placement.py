"""Where a container goes, and why it does not go elsewhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hythe_runtime.controller.placement import Candidate, place

HOSTS = st.lists(
    st.builds(Candidate, host=st.sampled_from(["a", "b", "c", "d"]), fresh=st.booleans(), containers=st.integers(0, 9)),
    unique_by=lambda candidate: candidate.host,
    max_size=4,
)


@given(HOSTS)
def test_fresh_host_with_the_fewest_containers_is_chosen(hosts: list[Candidate]) -> None:
    """Without a wish the emptiest host that lives is taken, ties by name, in whatever order they are looked at."""
    able = sorted((h.containers, h.host) for h in hosts if h.fresh)
    choice = place(hosts, "")
    assert choice.host == (able[0][1] if able else None)
    assert place(reversed(hosts), "").host == choice.host


@given(HOSTS, st.sampled_from(["a", "b", "z"]))
def test_wished_host_is_taken_or_none(hosts: list[Candidate], wanted: str) -> None:
    """A container is never placed on another host than the one asked for."""
    able = any(h.host == wanted and h.fresh for h in hosts)
    assert place(hosts, wanted).host == (wanted if able else None)


@given(HOSTS, st.sampled_from(["", "a", "z"]))
def test_every_host_that_was_refused_has_a_reason(hosts: list[Candidate], wanted: str) -> None:
    """Whoever asks why gets an answer for each host, and for the one asked for also when nobody knows it."""
    choice = place(hosts, wanted)
    assert set(choice.reasons) == {h.host for h in hosts} | ({wanted} if wanted else set())
    for host in hosts:
        refused = not host.fresh or (wanted and host.host != wanted)
        assert bool(choice.reasons[host.host]) == bool(refused)
    if wanted and wanted not in {h.host for h in hosts}:
        assert choice.reasons[wanted] == ["no agent of that name has been heard of"]


def test_stale_host_is_refused_by_name() -> None:
    """The reason says what is wrong with it."""
    choice = place([Candidate("a", fresh=False, containers=0)], "a")
    assert choice.host is None
    assert choice.reasons == {"a": ["its agent has not been heard of for 5 s"]}
