"""Keeps the view of the hosts true: beats, numbered changes, full lists; and what a host's clock allows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from pydantic import ValidationError

from hythe import subjects
from hythe.bus.connection import Bus, Message, Subscription
from hythe.errors import HytheError, Unavailable
from hythe.wire.agent import Beat, ContainerStatus
from hythe_runtime.controller.adapters.hosts import Agents
from hythe_runtime.controller.placement import Candidate, Choice, place
from hythe_runtime.controller.view import HostView, View

log = logging.getLogger(__name__)

FIRST_BEAT_S = 1.4
BEGIN_WITHIN_MS = 5_000


class Hosts:
    """The hosts as this runtime knows them.

    Attributes:
        on_full_list: called with a host whose full list has just been taken.
        on_removed: called with namespace and id of a container that its host has just removed.
    """

    def __init__(self, bus: Bus, agents: Agents) -> None:
        self._bus = bus
        self._agents = agents
        self.view: View[ContainerStatus] = View()
        self._refreshing: dict[str, asyncio.Task[None]] = {}
        self._subscriptions: list[Subscription] = []
        self._heard = asyncio.Event()
        self._first_beats_until = 0.0
        self.on_full_list: Callable[[str], None] = lambda host: None
        self.on_removed: Callable[[str, str], None] = lambda namespace, container_id: None

    async def start(self) -> None:
        """Listen to all agents."""
        self._first_beats_until = time.monotonic() + FIRST_BEAT_S
        self._subscriptions = [
            await self._bus.subscribe(subjects.ALL_BEATS, self._on_beat),
            await self._bus.subscribe(subjects.ALL_STATUSES, self._on_status),
        ]

    async def stop(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        for task in self._refreshing.values():
            task.cancel()

    def _on_beat(self, message: Message) -> None:
        try:
            beat = Beat.model_validate_json(message.data)
        except ValidationError:
            log.error("a heartbeat was not understood", extra={"subject": message.subject})
            return
        if message.subject != subjects.beat(beat.host):
            log.error("a heartbeat speaks for another host", extra={"subject": message.subject, "said": beat.host})
            return
        if self.view.beat(beat.host, beat.instance, beat.boot_id, beat.boottime_ms, beat.change, time.monotonic()):
            self._refresh(beat.host)
        self._heard.set()

    def _on_status(self, message: Message) -> None:
        try:
            status = ContainerStatus.model_validate_json(message.data)
        except ValidationError:
            log.error("a status was not understood", extra={"subject": message.subject})
            return
        if message.subject != subjects.status(status.namespace, status.host):
            log.error("a status speaks for another host", extra={"subject": message.subject, "said": status.host})
            return
        kept = None if status.status == "removed" else status
        if kept is None:
            self.on_removed(status.namespace, status.id)
        if self.view.status(status.host, status.instance, status.change, status.id, kept):
            self._refresh(status.host)

    def _refresh(self, host: str) -> None:
        if host not in self._refreshing:
            task = asyncio.get_running_loop().create_task(self._fetch_full_list(host))
            self._refreshing[host] = task
            task.add_done_callback(lambda _: self._refreshing.pop(host, None))

    async def _fetch_full_list(self, host: str) -> None:
        containers: dict[str, ContainerStatus] = {}
        gone: set[str] = set()
        first = None
        try:
            async for page in self._agents.pages(host):
                first = first or page
                if page.instance != first.instance:
                    return  # the agent was started anew in the middle: its next beat asks again
                containers.update({status.id: status for status in page.containers})
                gone.update(page.gone)
        except HytheError as error:
            log.warning("could not list a host", extra={"host": host, "cause": str(error)})
            return
        if first is not None:
            self.view.full(host, first.instance, first.change, containers, frozenset(gone))
            self._heard.set()
            self.on_full_list(host)

    async def heard(self, names: set[str]) -> None:
        """Return when the full lists of the hosts `names` are there; waits only while this runtime has just started."""
        while not self._all_told(names) and await self._news(self._first_beats_until):
            pass

    def _all_told(self, names: set[str]) -> bool:
        known = self.view.hosts
        return bool(known) and names <= known.keys() and all(host.complete for host in known.values())

    async def choose(self, wanted: str) -> Choice:
        """Choose a host for a container, waiting up to 1.4 s for one.

        Raises:
            Unavailable: no host would take it; the cause has every host's reasons.
        """
        choice = self._place(wanted)
        limit = time.monotonic() + FIRST_BEAT_S
        while choice.host is None and await self._news(limit):
            choice = self._place(wanted)
        if choice.host is None:
            known = "; ".join(f"{host}: {', '.join(why)}" for host, why in choice.reasons.items() if why)
            raise Unavailable(
                "place the container: no agent is running" + (f" on {wanted}" if wanted else ""),
                phase="place",
                cause=known or "no agent has been heard of",
                service="agent",
                next_step="`hythe status` shows the processes; `hythe up` starts the agent",
            )
        return choice

    def _place(self, wanted: str) -> Choice:
        now = time.monotonic()
        return place((Candidate(h.host, h.fresh(now), len(h.containers)) for h in self.view.hosts.values()), wanted)

    async def _news(self, limit: float) -> bool:
        """Wait for the next heartbeat or list; tell whether one came before `limit`."""
        left_s = limit - time.monotonic()
        if left_s <= 0:
            return False
        self._heard.clear()
        try:
            await asyncio.wait_for(self._heard.wait(), left_s)
        except TimeoutError:
            return False
        return True

    async def begin_before(self, host: str) -> str:
        """Return the latest time at which a request to `host` may begin, in that host's own clock, 5 s from now.

        Raises:
            Unavailable: the host has not been heard of, so its clock is not known.
        """
        while (known := self.view.hosts.get(host)) is None and await self._news(self._first_beats_until):
            pass
        if known is None:
            raise Unavailable(
                f"ask the agent of {host}: it has not been heard of",
                service="agent",
                host=host,
                next_step="`hythe status` shows the processes; `hythe up` starts the agent",
            )
        elapsed_ms = int((time.monotonic() - known.heard_at) * 1000)
        return f"{known.boot_id}/{known.boottime_ms + elapsed_ms + BEGIN_WITHIN_MS}"

    def is_gone(self, host: str, container_id: str) -> bool:
        """Tell whether `host` has said that it removed a container."""
        known = self.view.hosts.get(host)
        return known is not None and container_id in known.gone

    def known(self) -> list[HostView[ContainerStatus]]:
        """Return all hosts heard of since this runtime started."""
        return list(self.view.hosts.values())
