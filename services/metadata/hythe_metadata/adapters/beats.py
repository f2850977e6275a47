"""Heartbeats of agents, as metadata hears them on the bus."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from hythe import subjects
from hythe.bus.connection import Bus
from hythe.bus.message import Message, Subscription
from hythe.wire.agent import Beat
from hythe.wire.base import read_reply
from hythe_metadata.hosts_seen import HostsSeen

log = logging.getLogger(__name__)


async def listen(bus: Bus, seen: HostsSeen) -> Subscription:
    """Tell `seen` of each heartbeat; one that speaks for another host is dropped, for only its subject can be believed."""

    def take(message: Message) -> None:
        try:
            beat = read_reply(Beat, message.data)
        except ValidationError:
            log.error("a heartbeat was not understood", extra={"subject": message.subject})
            return
        if message.subject == subjects.beat(beat.host):
            seen.beat(beat.host, beat.instance)
        else:
            log.error("a heartbeat speaks for another host", extra={"subject": message.subject, "said": beat.host})

    return await bus.subscribe(subjects.ALL_BEATS, take)
