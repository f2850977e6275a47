"""How a trace looks in the terminal."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hythe.cli.waterfall import plain, render
from hythe.client.spans import build_trace
from tests.unit.client.test_spans import BEGIN_NS, MS, a_run, message, span


def lines(messages: list[dict[str, Any]], width: int = 100, colour: bool = False) -> list[str]:
    """Return the lines of the waterfall."""
    return render(build_trace(messages), width, colour).splitlines()


def line_of(name: str, page: list[str]) -> str:
    """Return the line of a span."""
    return next(line for line in page if re.match(rf"[* ][! ] *(→ )?{re.escape(name)} ", line))


def test_waterfall_shows_who_did_what_when() -> None:
    """Each span has its place in the tree, its process, when it began, how long it took, and a bar."""
    page = lines(a_run())
    assert page[0] == "root  100.0 ms"
    assert "trace 4bf92f3577b34da6a3ce929d0e0e4736, 2023-11-14 22:13:20 UTC" in page
    assert "3 processes, 2 round trips, 0 fsyncs" in page
    assert re.fullmatch(r"\*           commit +metadata +13\.0 +4\.0 +█+", line_of("commit", page))
    assert line_of("ask-run", page).startswith("*   → ask-run")


def test_bars_are_to_scale() -> None:
    """A bar begins and ends where its span did, as a share of the whole."""
    page = lines(
        [message("cli", span("root", "", 0, 100), span("half", "root", 50, 100), span("dot", "root", 99.99, 100))], 100
    )
    whole = line_of("root", page)
    column, cells = whole.index("█"), whole.count("█")
    half = line_of("half", page)
    assert half.index("█") == column + cells // 2
    assert half.count("█") == cells - cells // 2
    dot = line_of("dot", page)
    assert dot.rstrip().endswith("▒")
    assert len(dot) == column + cells


def test_critical_path_is_marked_and_summed_up() -> None:
    """What the time went into is marked in the tree and listed by share."""
    page = lines([message("cli", span("root", "", 0, 100), span("slow", "root", 0, 75), span("beside", "root", 0, 5))])
    assert line_of("slow", page).startswith("* ")
    assert line_of("beside", page).startswith("  ")
    assert "▒" in line_of("beside", page)
    assert any(re.search(r"75\.0 ms +75 % +slow \(cli\)", line) for line in page)


def test_error_and_events_stand_below_their_span() -> None:
    """A failed span says why, and what was noted inside a span says when."""
    event = {"name": "oom", "time_ns": BEGIN_NS + 5 * MS, "attributes": {"count": 1}}
    failed = span("create", "root", 1, 9, status="error", status_message="no such file", events=[event])
    page = lines([message("cli", span("root", "", 0, 10), failed)])
    at = page.index(line_of("create", page))
    assert page[at + 1].strip() == "! no such file"
    assert page[at + 2].strip() == "· oom at 5.0 count=1"


def test_error_is_explained_where_it_came_from() -> None:
    """An error that went up through several spans marks them all, and its text stands once, below the deepest."""
    error = {"status": "error", "status_message": "no such file"}
    page = lines([message("cli", span("root", "", 0, 10, **error), span("run", "root", 1, 9, **error))])
    assert line_of("root", page).startswith("*!")
    assert line_of("run", page).startswith("*!")
    assert [line.strip() for line in page].count("! no such file") == 1
    assert page[page.index(line_of("run", page)) + 1].strip() == "! no such file"


def test_incomplete_trace_says_so_and_why() -> None:
    """Whoever looks too early sees what is still to come; a long list is cut."""
    page = lines([message("cli", span("root", "", 0, 1), still_open=1)])
    assert page[-2:] == ["incomplete:", "  1 span of cli on h1 (pid 7) had not ended"]
    orphans = [span(f"o{number}", "gone", 0, 1) for number in range(20)]
    page = lines([message("cli", span("root", "", 0, 1)), message("agent", *orphans)])
    assert page[-1] == "  and 12 more"


def test_dropped_spans_are_told() -> None:
    """A process that had no room for spans is named, for something may be missing."""
    page = lines([message("cli", span("root", "", 0, 1), dropped=3)])
    assert "cli on h1 (pid 7) had no room for 3 spans since it started" in page


def test_processes_bear_their_host_when_there_are_several() -> None:
    """In a trace across hosts each line says where it happened, and that clocks were laid over each other."""
    messages = a_run()
    messages[0]["host"] = "h2"
    page = lines(messages)
    assert "metadata@h2" in line_of("begin", page)
    assert any("clocks" in line for line in page)


@pytest.mark.parametrize("width", [1, 50, 59, 60, 80, 133, 400])
@pytest.mark.parametrize("hosts", [1, 2])
def test_no_line_is_wider_than_the_terminal(width: int, hosts: int) -> None:
    """Whatever the width, nothing wraps; below 60 columns the bars go, and 50 are needed."""
    messages = [*a_run(), message("agent", span("x" * 200, "gone", 0, 5, status="error", status_message="y" * 500))]
    messages[0]["host"] = "h2" * hosts if hosts > 1 else "h1"
    page = lines(messages, width)
    assert max(map(len, page)) <= max(width, 50)
    assert any("█" in line for line in page) == (width >= 60)


def test_colour_changes_nothing_but_colour() -> None:
    """With colours taken away the coloured page is the plain page."""
    messages = [*a_run(), message("agent", span("bad", "run", 0, 5, status="error", status_message="no"), still_open=1)]
    coloured = lines(messages, colour=True)
    assert any("\033[" in line for line in coloured)
    assert [re.sub(r"\033\[\d+m", "", line).rstrip() for line in coloured] == lines(messages)


def test_hostile_texts_do_not_drive_the_terminal() -> None:
    """No control character of a name, host, message or attribute reaches the terminal."""
    evil = "\033]0;owned\007\n\u202e\x9b"
    event = {"name": evil, "time_ns": BEGIN_NS, "attributes": {evil: evil}}
    bad = span("x", "gone" + evil, 0, 1, status="error", status_message=evil, name=evil, events=[event])
    text = render(build_trace([message("a" + evil, bad, host=evil, still_open=1, dropped=1)]), 100, False)
    assert all(c.isprintable() for c in text.replace("\n", ""))
    assert plain("a\tb\u2028c") == "a?b?c"


def test_empty_trace_is_a_page_too() -> None:
    """A trace of which nothing has arrived is said to be incomplete."""
    assert lines([])[-1] == "  the command's own span has not arrived"
