"""How events are written."""

from __future__ import annotations

import json

import pytest

from hythe import subjects
from hythe.cli.event_lines import Writer
from hythe.client.event_reader import Missing, StoredEvent, Unreadable, read_event
from hythe.client.stream_parts import Gap, Message
from hythe.errors import InvalidArgument

BODY = {
    "topic": "/tasks/exit", "namespace": "default", "host": "h1", "object_id": "c0ffee", "number": 3, "run": 1,
    "time": "2026-11-23T20:15:00.250000Z", "caller": "admin", "request_id": "r", "trace_id": "t",
    "attributes": {"container_id": "c0ffee", "name": "web\x1b[2J", "exit_status": "7", "reason": "", "labels.app": "x"},
}  # fmt: skip


def stored(**changes: object) -> StoredEvent:
    data = json.dumps({**BODY, **changes}).encode()
    subject = subjects.event("default", "h1", "container", "c0ffee", "exited")
    return StoredEvent(Message(41, 1_795_000_000_123_456_789, subject, data), read_event(data))


def said(
    capsys: pytest.CaptureFixture[str], form: str, item: object = None, *filters: str, verbose: bool = False
) -> str:
    writer = Writer(form, filters, verbose=verbose)
    writer.write(stored() if item is None else item)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_line_for_people_has_what_matters_and_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """A hostile name cannot steer the terminal; who asked is shown when it is asked for."""
    plain = said(capsys, "table")
    assert (
        plain
        == "2026-11-23T20:15:00.250000Z h1 /tasks/exit c0ffee container_id=c0ffee name=web\\x1b[2J exit_status=7\n"
    )
    verbose = said(capsys, "table", verbose=True)
    assert "labels.app=x caller=admin request_id=r trace_id=t" in verbose


def test_json_has_every_field_and_the_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    """A program gets the event whole, with its place in the stream and when that got it."""
    row = json.loads(said(capsys, "json"))
    assert row == {**BODY, "seq": 41, "type": "container", "stored_at": "2026-11-18T11:06:40.123457Z"}


def test_template_has_dockers_names(capsys: pytest.CaptureFixture[str]) -> None:
    """What scripts for Docker ask for is there; an attribute that an event has not is no error."""
    text = "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.exit_status}} {{.Actor.Attributes.image}} {{.TimeNano}}"
    assert said(capsys, text) == "container exit c0ffee 7 <no value> 1795464900250000000\n"
    assert said(capsys, "{{.Seq}} {{.Caller}} {{.Topic}}") == "41 admin /tasks/exit\n"
    with pytest.raises(InvalidArgument, match=r"no field \.Actoin"):
        said(capsys, "{{.Actoin}}")
    with pytest.raises(InvalidArgument, match="never end"):
        Writer("table {{.Type}}", [], verbose=False)


@pytest.mark.parametrize("form", ["table", "json"])
def test_what_is_missing_is_told_whatever_the_filter(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """A gap is a line on stderr, and for programs an object in the stream as well."""
    writer = Writer(form, ["type=image"], verbose=False)
    writer.write(Gap(5, 17))
    writer.write(Missing(stored(), 1, 2))
    writer.write(Unreadable(9, "it is no object"))
    writer.write(stored())
    out, err = capsys.readouterr()
    assert "gap 5..17" in err
    assert "missing 1..2: events of container c0ffee" in err
    assert "message 9 is no event" in err
    about = {"type": "container", "namespace": "default", "host": "h1", "object_id": "c0ffee"}
    wanted = [{"gap": {"from": 5, "to": 17}}, {"missing": {**about, "from": 1, "to": 2}}]
    assert [json.loads(line) for line in out.splitlines()] == (wanted if form == "json" else [])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"topic": 1}',
        json.dumps({**BODY, "number": "3"}).encode(),
        json.dumps({**BODY, "number": True}).encode(),
        json.dumps({**BODY, "attributes": {"a": 1}}).encode(),
        json.dumps({**BODY, "attributes": []}).encode(),
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_message_that_is_no_event_is_refused(data: bytes) -> None:
    """Whatever somebody stored there, it is told as unreadable and never crashes the reader."""
    with pytest.raises(ValueError, match=r".*"):
        read_event(data)
