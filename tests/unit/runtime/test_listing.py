"""Records joined with what hosts report: each container once, none invented, none hidden."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hythe.wire.agent import ContainerStatus
from hythe.wire.container import ContainerRecord, ContainerSpec, Epoch, ImageRef
from hythe_runtime.controller.listing import join
from hythe_runtime.controller.view import FRESH_S, HostView

NOW = 1000.0
IMAGE = ImageRef(reference="busybox:latest")


def ident(letter: str) -> str:
    """Return an id."""
    return letter * 32


def record(letter: str, host: str = "h1", namespace: str = "default", created: str = "2026") -> ContainerRecord:
    """Return a record of intent."""
    return ContainerRecord(
        id=ident(letter),
        namespace=namespace,
        name=letter,
        image=IMAGE,
        host=host,
        spec=ContainerSpec(),
        desired="running",
        phase="created",
        epoch=Epoch(era=1, revision=1),
        revision=1,
        created_at=created,
    )


def status(letter: str, host: str = "h1", namespace: str = "default", created: str = "2026") -> ContainerStatus:
    """Return a running container's status."""
    return ContainerStatus(
        id=ident(letter),
        namespace=namespace,
        name=letter,
        image=IMAGE,
        host=host,
        status="running",
        created_at=created,
    )


def view(
    host: str,
    letters: str = "",
    gone: str = "",
    *,
    fresh: bool = True,
    complete: bool = True,
    namespace: str = "default",
) -> HostView[ContainerStatus]:
    """Return what is known of a host."""
    return HostView(
        host,
        "instance",
        "boot",
        0,
        NOW if fresh else NOW - FRESH_S - 1,
        complete=complete,
        containers={ident(letter): status(letter, host, namespace) for letter in letters},
        gone={ident(letter) for letter in gone},
    )


LETTERS = st.text("abcdef", max_size=6).map(lambda text: "".join(sorted(set(text))))


@given(LETTERS, LETTERS, LETTERS, st.booleans())
def test_each_container_is_listed_once(recorded: str, reported: str, gone: str, complete: bool) -> None:
    """Recorded or reported, or both: once; recorded but removed by its host: not at all."""
    gone = "".join(letter for letter in gone if letter not in reported)
    listed = join([record(letter) for letter in recorded], [view("h1", reported, gone, complete=complete)], "", NOW)
    ids = [(item.record or item.status).id for item in listed]  # type: ignore[union-attr]
    hidden = set(gone) if complete else set()
    assert sorted(ids) == sorted(ident(letter) for letter in (set(recorded) | set(reported)) - (hidden - set(reported)))
    for item in listed:
        letter = (item.record or item.status).name  # type: ignore[union-attr]
        assert (item.record is not None) == (letter in recorded)
        assert (item.status is not None) == (letter in reported)
        assert not item.stale


def test_container_on_a_host_that_is_not_heard_of_is_marked() -> None:
    """Old knowledge is shown, and as such."""
    (known,) = join([record("a")], [view("h1", "a", fresh=False)], "", NOW)
    (unheard,) = join([record("a", host="h2")], [view("h1")], "", NOW)
    assert (known.status is not None, known.stale) == (True, True)
    assert (unheard.status, unheard.stale) == (None, True)


def test_unclaimed_container_is_listed_in_its_namespace_alone() -> None:
    """What only a host knows belongs to the namespace that the host says."""
    hosts = [view("h1", "a", namespace="team")]
    assert [item.stale for item in join([], hosts, "team", NOW)] == [False]
    assert join([], hosts, "default", NOW) == []
    assert len(join([], hosts, "", NOW)) == 1


def test_newest_container_comes_first() -> None:
    """Recorded and unclaimed ones together."""
    hosts = [view("h1")]
    hosts[0].containers = {ident("b"): status("b", created="2027")}
    listed = join([record("a", created="2026"), record("c", created="2028")], hosts, "", NOW)
    assert [(item.record or item.status).name for item in listed] == ["c", "b", "a"]  # type: ignore[union-attr]
