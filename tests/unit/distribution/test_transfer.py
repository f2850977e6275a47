"""A transfer goes on where it broke, whatever broke: its connection, its source or its process."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from hythe import tracing
from hythe.errors import (
    DataLoss,
    FailedPrecondition,
    HytheError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from hythe.oci import Descriptor
from hythe.ports.content import Content
from hythe_distribution.fetcher import Rules
from tests.fakes.fetching import DATA, OTHER, SOURCE, Bench
from tests.fixtures.waiting import until

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
URL = "https://elsewhere.example/layer"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A fetcher on an in-memory store and registry."""
    made = Bench()
    yield made
    await made.close()


def leave(content: Content, descriptor: Descriptor, data: bytes) -> None:
    """Leave some bytes of a blob, as a download that broke would."""
    with content.open_ingest(f"layer-{descriptor.digest}") as ingest:
        ingest.write(data)


async def test_connection_that_breaks_is_gone_on_with_at_the_byte_reached(bench: Bench) -> None:
    """Each break costs one more request, which asks for what is missing and for nothing that is here."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.registry.breaks = deque([4321, 100])
    assert await bench.begin(wanted) == len(DATA)
    assert bench.has(wanted)
    assert bench.registry.asked == [(0, None), (4321, None), (4421, None)]
    assert bench.registry.served_bytes == len(DATA)
    assert (bench.counts.retries, bench.counts.resumed_bytes) == (2, 0)
    assert [news.state for news in bench.seen][-1] == "fetched"


async def test_what_an_earlier_download_left_is_not_fetched_again(bench: Bench) -> None:
    """A download that was given up or killed is gone on with, and its bytes count as progress from the first report on."""
    wanted = bench.registry.serve(SOURCE, DATA)
    leave(bench.content, wanted, DATA[:7000])
    assert await bench.begin(wanted) == len(DATA) - 7000
    assert bench.has(wanted)
    assert bench.registry.asked == [(7000, None)]
    assert bench.registry.served_bytes == len(DATA) - 7000
    assert (bench.counts.resumed_bytes, bench.counts.size_bytes) == (7000, len(DATA) - 7000)
    fetching = next(news for news in bench.seen if news.state == "fetching")
    assert fetching.done_bytes == 7000


async def test_blob_left_whole_but_not_committed_is_verified_without_a_request(bench: Bench) -> None:
    """Who died just before the end of the commit has nothing to ask the registry for."""
    wanted = bench.registry.serve(SOURCE, DATA)
    leave(bench.content, wanted, DATA)
    assert await bench.begin(wanted) == 0
    assert bench.has(wanted)
    assert bench.registry.asked == []


async def test_server_without_ranges_is_read_past_what_is_here(bench: Bench) -> None:
    """Where the whole comes again its first bytes are passed over, and the blob is right."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.registry.knows_ranges = False
    bench.registry.breaks = deque([2500, 4000])
    assert await bench.begin(wanted) == len(DATA)
    assert bench.has(wanted)
    assert bench.registry.served_bytes == len(DATA) + 2500 + 4000


async def test_wrong_leftover_is_fetched_anew_once(bench: Bench) -> None:
    """Bytes that were left and turn out wrong cost a second download, not the pull."""
    wanted = bench.registry.serve(SOURCE, DATA)
    leave(bench.content, wanted, b"x" * 7000)
    assert await bench.begin(wanted) == len(DATA)
    assert bench.has(wanted)
    assert bench.registry.asked == [(7000, None), (0, None)]
    assert list(bench.content.ingests()) == []


async def test_wrong_bytes_after_a_break_are_fetched_anew_once_and_no_more(bench: Bench) -> None:
    """A registry that gives wrong bytes twice has DataLoss, and nothing of them is kept."""
    wanted = bench.registry.serve(SOURCE, DATA, instead=b"x" * len(DATA))
    bench.registry.breaks = deque([3000])
    with pytest.raises(DataLoss):
        await bench.begin(wanted)
    assert bench.registry.asked == [(0, None), (3000, None), (0, None)]
    assert list(bench.content.ingests()) == []


async def test_leftover_longer_than_the_blob_is_fetched_anew(bench: Bench) -> None:
    """What can't be the beginning of the blob is dropped."""
    wanted = bench.registry.serve(SOURCE, DATA)
    leave(bench.content, wanted, DATA + b"x")
    assert await bench.begin(wanted) == len(DATA)
    assert bench.has(wanted)


async def test_endless_body_is_data_loss_at_once(bench: Bench) -> None:
    """A source that sends more than promised is read no further than one byte past the end."""
    wanted = bench.registry.serve(SOURCE, DATA, instead=DATA * 1000)
    with pytest.raises(DataLoss):
        await bench.begin(wanted)
    assert bench.registry.served_bytes == len(DATA) + 1
    assert list(bench.content.ingests()) == []


async def test_tries_without_a_byte_end_in_the_last_error(bench: Bench) -> None:
    """Five requests in a row that bring nothing are enough; what had come before is kept for later."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.registry.breaks = deque([3000, 0, 0, 0, 0, 0])
    with pytest.raises(Unavailable) as raised:
        await bench.begin(wanted)
    assert "broke off" in raised.value.message
    assert len(bench.registry.asked) == 6
    assert [status.offset for status in bench.content.ingests()] == [3000]
    assert await bench.begin(wanted) == len(DATA) - 3000


async def test_every_byte_of_progress_gives_new_tries(bench: Bench) -> None:
    """A bad line that brings a little each time brings all in the end."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.registry.breaks = deque([0, 0, 0, 10] * 5)
    assert await bench.begin(wanted) == len(DATA)
    assert bench.counts.retries == 20


@pytest.mark.parametrize(
    "error",
    [NotFound("gone"), DataLoss("other"), PermissionDenied("no"), Unauthenticated("who"), ResourceExhausted("429")],
)
async def test_refusal_is_not_repeated(bench: Bench, error: HytheError) -> None:
    """What a repetition can't change is said at once; what had come is kept."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.registry.breaks = deque([3000])
    bench.registry.breaks_at[3000] = deque([error])
    with pytest.raises(type(error)):
        await bench.begin(wanted)
    assert len(bench.registry.asked) == 2
    assert [status.offset for status in bench.content.ingests()] == [3000]


async def test_registry_that_cannot_be_reached_is_asked_again_only_after_it_had_answered(bench: Bench) -> None:
    """A first answer that doesn't come is the registry client's to repeat; once it has come, a restart is waited for."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.registry.breaks_at[0] = deque([Unavailable("cannot reach")])
    with pytest.raises(Unavailable):
        await bench.begin(wanted)
    assert len(bench.registry.asked) == 1
    bench.registry.breaks = deque([3000])
    bench.registry.breaks_at[3000] = deque([Unavailable("cannot reach"), Unavailable("cannot reach")])
    assert await bench.begin(wanted) == len(DATA)


async def test_pause_between_tries_ends_when_nobody_waits(bench: Bench) -> None:
    """Who gives a download up does not wait for its next try."""
    wanted = bench.registry.serve(SOURCE, DATA)
    patient = Bench(rules=Rules(first_wait_s=3600.0, most_wait_s=3600.0))
    patient.registry.serve(SOURCE, DATA)
    patient.registry.breaks = deque([3000])
    caller = patient.begin(wanted)
    await until(lambda: patient.counts.retries == 1, what="it waits")
    caller.cancel()
    await patient.close()
    assert patient.counts.outcomes == ["cancelled"]
    assert [status.offset for status in patient.content.ingests()] == [3000]


def test_pauses_double_up_to_five_seconds() -> None:
    """The first pause is short, a long trouble is asked about seldom."""
    assert [Rules().wait_s(tries) for tries in range(9)] == [0.1, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_other_source_goes_on_from_the_last_byte(bench: Bench) -> None:
    """When the first registry fails in the middle, the next one is asked only for the rest."""
    wanted = bench.registry.serve(SOURCE, DATA)
    bench.registry.serve(OTHER, DATA)
    bench.registry.breaks = deque([6000, 0, 0, 0, 0, 0])
    bench.hold()
    first = bench.begin(wanted)
    await bench.running()
    second = bench.begin(wanted, OTHER)
    await bench.joined(1)
    bench.registry.gate.set()
    with pytest.raises(Unavailable):
        await first
    assert await second == len(DATA)
    assert bench.registry.opened[-1] == (str(OTHER), wanted.digest)
    assert bench.registry.asked[-1] == (6000, None)
    assert bench.registry.served_bytes == len(DATA)


class Spans(tracing._NoBackend):
    """Notes attributes and events of spans by their name."""

    def __init__(self) -> None:
        self.attributes: dict[str, dict[str, tracing.Value]] = {}
        self.events: dict[str, list[str]] = {}

    @contextmanager
    def span(
        self, name: str, kind: tracing.Kind, attributes: Mapping[str, tracing.Value], parent: Mapping[str, str] | None
    ) -> Iterator[tracing.Span]:
        """See `tracing.Backend.span`."""
        found = self.attributes[name] = dict(attributes)
        events = self.events[name] = []

        class Noted(tracing._NoSpan):
            def set(self, key: str, value: tracing.Value) -> None:
                found[key] = value

            def event(self, name: str, **attributes: tracing.Value) -> None:
                events.append(name)

        yield Noted()


@pytest.fixture
def spans() -> Iterator[Spans]:
    """The spans of this test."""
    noted, before = Spans(), tracing._backend
    tracing.install(noted)
    yield noted
    tracing.install(before)


async def test_trace_says_what_was_resumed_repeated_and_fetched_in_parts(bench: Bench, spans: Spans) -> None:
    """The span of a download tells why it took as long as it did."""
    large = DATA * 10
    wanted = bench.registry.serve(SOURCE, large)
    leave(bench.content, wanted, b"x" * 7000)
    bench.registry.breaks_at[7000] = deque([100])
    await bench.begin(wanted)
    found = spans.attributes["fetch blob"]
    assert (found["fetch.resumed_bytes"], found["fetch.retries"]) == (7000, 1)
    assert int(found["fetch.parts"]) > 0
    assert spans.events["fetch blob"] == ["retry", "begun anew"]
    assert "verify and commit" in spans.attributes


async def test_foreign_layer_is_refused_until_asked_for(bench: Bench) -> None:
    """Bytes from an address that a manifest names come only on the user's word, and then from nowhere else."""
    served = bench.registry.serve(URL, DATA)
    wanted = replace(served, media_type=FOREIGN, urls=("https://gone.example/x", URL))
    with pytest.raises(FailedPrecondition) as raised:
        await bench.begin(wanted)
    assert "--foreign-layers fetch" in raised.value.next_step
    assert bench.registry.opened == []
    bench.registry.breaks = deque([4000])
    assert await bench.fetcher.ensure(SOURCE, wanted, bench.seen.append, foreign=True) == len(DATA)
    assert bench.registry.opened == [(URL, wanted.digest)] * 2
    assert bench.registry.asked == [(0, None), (4000, None)]
    assert await bench.begin(wanted) == 0


async def test_foreign_layer_that_names_no_address_comes_from_the_registry(bench: Bench) -> None:
    """A registry that keeps such layers itself is asked like for any other."""
    served = bench.registry.serve(SOURCE, DATA)
    assert await bench.begin(replace(served, media_type=FOREIGN)) == len(DATA)


async def test_address_of_an_ordinary_layer_is_never_asked(bench: Bench) -> None:
    """URLs in a descriptor of an ordinary layer lead nowhere, whatever the user allows."""
    bench.registry.serve(URL, DATA)
    wanted = replace(bench.registry.serve(SOURCE, DATA), urls=(URL,))
    assert await bench.fetcher.ensure(SOURCE, wanted, bench.seen.append, foreign=True) == len(DATA)
    assert bench.registry.opened == [(str(SOURCE), wanted.digest)]
