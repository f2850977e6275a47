"""Leases end by time that a process has seen pass, whatever its wall clock says."""

from __future__ import annotations

from hythe_metadata.lease_clock import LeaseClock, StepWatch


class Clocks:
    """Clocks that tests move."""

    def __init__(self) -> None:
        self.boottime_s = 1000.0
        self.wall_s = 1_800_000_000.0

    def pass_s(self, seconds: float) -> None:
        """Let time pass on both."""
        self.boottime_s += seconds
        self.wall_s += seconds

    def boottime_ms(self) -> int:
        """CLOCK_BOOTTIME."""
        return int(self.boottime_s * 1000)

    def wall_ns(self) -> int:
        """The wall clock."""
        return int(self.wall_s * 1e9)


def test_lease_nobody_renews_ends_after_its_duration() -> None:
    """A lease lasts exactly as long as it was made for, counted from when it was first seen."""
    clocks = Clocks()
    leases = LeaseClock(clocks.boottime_ms)
    assert not leases.expired("lease a", 1, 60)
    clocks.pass_s(59)
    assert leases.left_s("lease a", 1, 60) == 1
    clocks.pass_s(1)
    assert leases.expired("lease a", 1, 60)


def test_lease_that_is_renewed_begins_anew() -> None:
    """Each renewal gives a lease its whole duration again, and no other lease."""
    clocks = Clocks()
    leases = LeaseClock(clocks.boottime_ms)
    assert not leases.expired("lease a", 1, 60)
    assert not leases.expired("lease b", 1, 60)
    clocks.pass_s(50)
    assert not leases.expired("lease a", 2, 60)
    clocks.pass_s(50)
    assert not leases.expired("lease a", 2, 60)
    assert leases.expired("lease b", 1, 60)


def test_process_that_was_stopped_gives_each_lease_its_whole_duration() -> None:
    """While metadata is suspended nobody can renew a lease, so none has run out when it goes on."""
    clocks = Clocks()
    leases = LeaseClock(clocks.boottime_ms)
    leases.alive()
    assert not leases.expired("lease a", 1, 60)
    clocks.pass_s(100)
    assert leases.left_s("lease a", 1, 60) == 60
    for _ in range(12):
        clocks.pass_s(5)
        leases.alive()
    assert leases.expired("lease a", 1, 60)


def test_process_that_was_cut_off_gives_each_lease_its_whole_duration() -> None:
    """While metadata can't be reached nobody can renew a lease, so none has run out when it is back on the bus."""
    clocks = Clocks()
    leases = LeaseClock(clocks.boottime_ms)
    assert not leases.expired("lease a", 1, 60)
    clocks.pass_s(100)
    leases.begin_anew()
    assert not leases.expired("lease a", 1, 60)


def test_process_that_starts_gives_each_lease_its_whole_duration() -> None:
    """However long metadata was away, nobody's lease has run out when it comes back."""
    clocks = Clocks()
    assert not LeaseClock(clocks.boottime_ms).expired("lease a", 1, 60)
    clocks.pass_s(3600)
    again = LeaseClock(clocks.boottime_ms)
    assert not again.expired("lease a", 1, 60)
    clocks.pass_s(61)
    assert again.expired("lease a", 1, 60)


def test_wall_clock_a_day_ahead_ends_no_lease_of_a_duration() -> None:
    """Somebody who sets the clock of the machine ends no lease by it."""
    clocks = Clocks()
    leases = LeaseClock(clocks.boottime_ms)
    assert not leases.expired("lease a", 1, 60)
    clocks.wall_s += 86_400
    assert leases.left_s("lease a", 1, 60) == 60


def test_what_is_gone_for_a_day_is_forgotten() -> None:
    """Millions of short leases over months don't fill the memory of metadata."""
    clocks = Clocks()
    leases = LeaseClock(clocks.boottime_ms)
    assert not leases.expired("lease kept", 1, 1e9)
    for number in range(20_000):
        leases.expired(f"lease {number}", 1, 60)
        clocks.pass_s(60)
        leases.expired("lease kept", 1, 1e9)
    assert len(leases) < 10_000
    assert leases.left_s("lease kept", 1, 1e9) == 1e9 - 20_000 * 60


def test_step_of_the_wall_clock_suspends_for_a_period() -> None:
    """For a while after the wall clock was set, forwards or back, nothing goes that ended by it; slow correction is no step."""
    clocks = Clocks()
    watch = StepWatch(clocks.boottime_ms, clocks.wall_ns)
    clocks.pass_s(600)
    clocks.wall_s += 1
    assert watch.suspended_s(60) == (0, 0)
    clocks.wall_s += 86_400
    assert watch.suspended_s(60) == (60, 86_400)
    clocks.pass_s(45)
    assert watch.suspended_s(60) == (15, 86_400)
    clocks.wall_s -= 3600
    assert watch.suspended_s(60) == (60, -3600)
    clocks.pass_s(60)
    assert watch.suspended_s(60)[0] == 0
