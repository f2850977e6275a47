"""What a runtime knows of a host: the full list, then numbered changes; whatever is lost or late, it ends up true."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from hythe_runtime.controller.view import FRESH_S, View

ACTIONS = st.sampled_from(("change", "remove", "deliver", "deliver", "lose", "snapshot", "list", "beat", "restart"))


class Agent:
    """An agent whose reports may be lost and late, but never out of order on one subject, and a view that hears them.

    Attributes:
        truth: status by id of each container, and ids that were removed, after each change of this instance.
    """

    def __init__(self) -> None:
        self.view: View[int] = View()
        self.instance = 0
        self.truth: list[tuple[dict[str, int], frozenset[str]]] = [({}, frozenset())]
        self.waiting: deque[tuple[str, int, str, int | None]] = deque()
        self.snapshots: deque[tuple[str, int, dict[str, int], frozenset[str]]] = deque()
        self._number = 0
        self.beat()

    @property
    def change(self) -> int:
        """Number of the latest change."""
        return len(self.truth) - 1

    def make(self, container_id: str, *, remove: bool) -> None:
        """Change one container."""
        containers, gone = dict(self.truth[-1][0]), self.truth[-1][1]
        if container_id in gone or (remove and container_id not in containers):
            return
        self._number += 1
        if remove:
            del containers[container_id]
            gone |= {container_id}
        else:
            containers[container_id] = self._number
        self.truth.append((containers, gone))
        self.waiting.append((str(self.instance), self.change, container_id, containers.get(container_id)))

    def deliver(self) -> None:
        """Let the next report arrive."""
        if self.waiting:
            self.view.status("h", *self.waiting.popleft())

    def lose(self) -> None:
        """Let the next report be lost."""
        if self.waiting:
            self.waiting.popleft()

    def snapshot(self) -> None:
        """Answer a question for the full list; the answer is on its way."""
        self.snapshots.append((str(self.instance), self.change, *self.truth[-1]))

    def list(self) -> None:
        """Let the oldest answer arrive."""
        if self.snapshots:
            self.view.full("h", *self.snapshots.popleft())

    def beat(self) -> bool:
        """Let a heartbeat arrive; tell whether the full list is wanted."""
        return self.view.beat("h", str(self.instance), "boot", 0, self.change, 0.0)

    def restart(self) -> None:
        """Start the agent anew: its containers stay, its count of changes begins again, what it said last is lost."""
        self.instance += 1
        self.truth = [self.truth[-1]]
        self.waiting.clear()

    def check(self) -> None:
        """Fail unless a view that calls itself complete is what was true at its change."""
        host = self.view.hosts["h"]
        if host.complete and host.instance == str(self.instance):
            containers, gone = self.truth[host.change]
            assert host.containers == containers
            assert host.gone == gone


@given(st.lists(st.tuples(ACTIONS, st.sampled_from("abc")), max_size=60))
def test_complete_view_is_what_the_agent_had_and_every_view_becomes_complete(actions: list[tuple[str, str]]) -> None:
    """With reports lost, late, and overtaken by lists, a complete view is never wrong, and one list more heals any other."""
    agent = Agent()
    for action, container_id in actions:
        if action in ("change", "remove"):
            agent.make(container_id, remove=action == "remove")
        else:
            getattr(agent, action)()
        agent.check()
    while agent.waiting:
        agent.deliver()
        agent.check()
    for _ in range(2):
        if agent.beat():
            agent.snapshots.clear()
            agent.snapshot()
            agent.list()
    host = agent.view.hosts["h"]
    assert host.complete
    assert (host.containers, frozenset(host.gone)) == agent.truth[-1]
    assert not agent.beat()


def complete(view: View[str]) -> None:
    """Make host ``h`` complete at change 5."""
    assert view.beat("h", "i1", "boot", 1000, 5, 100.0)
    assert not view.full("h", "i1", 5, {"a": "running"}, frozenset())


def test_first_beat_asks_for_the_list_and_later_ones_do_not() -> None:
    """A host that is known and complete is not asked again."""
    view: View[str] = View()
    complete(view)
    assert not view.beat("h", "i1", "boot", 2000, 5, 101.0)
    assert not view.beat("h", "i1", "boot", 2000, 4, 101.0)
    assert view.beat("h", "i1", "boot", 2000, 6, 101.0)


def test_changes_in_order_are_taken_and_late_ones_are_not() -> None:
    """The next number is taken; one that was seen changes nothing."""
    view: View[str] = View()
    complete(view)
    assert not view.status("h", "i1", 6, "b", "running")
    assert not view.status("h", "i1", 7, "a", None)
    assert not view.status("h", "i1", 6, "b", "stale")
    host = view.hosts["h"]
    assert (host.containers, host.gone, host.change) == ({"b": "running"}, {"a"}, 7)


def test_gap_asks_for_the_list_and_keeps_what_came_before_its_turn() -> None:
    """What is newer than a gap is shown at once and still there after an older list."""
    view: View[str] = View()
    complete(view)
    assert view.status("h", "i1", 7, "c", "running")
    host = view.hosts["h"]
    assert not host.complete
    assert host.containers == {"a": "running", "c": "running"}
    assert not view.full("h", "i1", 6, {"a": "exited"}, frozenset())
    assert host.complete
    assert (host.containers, host.change) == ({"a": "exited", "c": "running"}, 7)


def test_changes_during_a_list_are_not_lost() -> None:
    """A busy host need not be asked again and again: what changed while the list was on its way is added to it."""
    view: View[str] = View()
    view.beat("h", "i1", "boot", 0, 3, 0.0)
    for number in range(4, 54):
        assert view.status("h", "i1", number, f"c{number}", "running")
    assert not view.full("h", "i1", 3, {}, frozenset())
    assert len(view.hosts["h"].containers) == 50
    assert not view.status("h", "i1", 54, "c54", "running")


def test_new_instance_begins_anew_and_keeps_showing_what_was_known() -> None:
    """After an agent's restart the old view stays on display, marked incomplete, until the new list is there."""
    view: View[str] = View()
    complete(view)
    assert view.beat("h", "i2", "boot", 3000, 0, 102.0)
    host = view.hosts["h"]
    assert (host.complete, host.containers) == (False, {"a": "running"})
    assert view.status("h", "i1", 6, "x", "from the old instance")
    assert not view.full("h", "i1", 9, {"y": "from the old instance"}, frozenset())
    assert host.containers == {"a": "running"}
    assert not view.full("h", "i2", 0, {"a": "exited"}, frozenset({"b"}))
    assert (host.containers, host.gone) == ({"a": "exited"}, {"b"})


def test_reports_of_a_host_without_a_beat_are_asked_about() -> None:
    """Nothing is believed of a host before its first beat."""
    view: View[str] = View()
    assert view.status("h", "i1", 1, "a", "running")
    assert not view.full("h", "i1", 1, {"a": "running"}, frozenset())
    assert view.hosts == {}


def test_host_is_fresh_for_five_seconds_after_a_beat() -> None:
    """Status reports do not make a host fresh, beats do."""
    view: View[str] = View()
    complete(view)
    host = view.hosts["h"]
    assert host.fresh(100.0 + FRESH_S - 0.01)
    assert not host.fresh(100.0 + FRESH_S)
    view.status("h", "i1", 6, "b", "running")
    assert not host.fresh(100.0 + FRESH_S)
    view.beat("h", "i1", "boot", 9000, 6, 200.0)
    assert host.fresh(201.0)
    assert (host.boottime_ms, host.heard_at) == (9000, 200.0)
