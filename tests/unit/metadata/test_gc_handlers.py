"""What the endpoints of garbage collection keep between requests."""

from __future__ import annotations

import asyncio
import gc

from hythe.bus.endpoint import Context
from hythe.wire.garbage import GraphGet
from hythe_metadata.gc.pace import Thresholds
from hythe_metadata.gc.picture import Picture
from hythe_metadata.gc.scheduler import Scheduler
from hythe_metadata.gc_handlers import GcHandlers
from tests.fakes.gc_world import NAMESPACE, World
from tests.fixtures.waiting import until


def pictures() -> int:
    """Return how many pictures are in memory."""
    gc.collect()
    return sum(isinstance(each, Picture) for each in gc.get_objects())


async def test_graph_that_nobody_pages_through_any_more_takes_no_memory() -> None:
    """The pages of a graph are of one state while they are asked for, and then its memory is given back by itself."""
    world = await World().begin()
    world.bring("h1", "app", "layer")
    await world.image("a:1", "app")
    await world.collect()
    scheduler = Scheduler(world.store, world.collector.collect, Thresholds(), lambda report, seconds: None)
    running = asyncio.create_task(scheduler.run())  # what a graph is drawn of is learned by a collection
    handlers = GcHandlers(world.store, world.owners, world.collector, scheduler, drawn_s=0.2)
    context = Context(NAMESPACE, "test", "r-1", "subject")
    page = await handlers.graph(context, GraphGet(limit=1))
    await world.image("b:1", "app")
    rest = await handlers.graph(context, GraphGet(after=page.next))
    assert "image default b:1" not in {node.id for node in rest.nodes}, "one state"
    assert pictures() == 1
    await until(lambda: pictures() == 0, what="the picture is forgotten")
    again = await handlers.graph(context, GraphGet())
    assert "image default b:1" in {node.id for node in again.nodes}
    running.cancel()
    await asyncio.wait([running])
