"""`--format` templates: what of Go's notation is understood, what a value looks like, what is refused and where."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.cli.templates import FreeMap, parse, show, show_objects
from hythe.errors import InvalidArgument

ROW: dict[str, Any] = {
    "ID": "abc",
    "Size": 5,
    "Whole": True,
    "Nothing": None,
    "Config": {"Env": ["A=1", "B"], "Labels": FreeMap({"k": "v", "a": "b"}), "Empty": []},
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{.ID}}", "abc"),
        ("{{ .ID }}:{{.Size}}", "abc:5"),
        (r"{{.ID}}\t{{.Whole}}\n", "abc\ttrue\n"),
        ("a } b { c {{.ID}}}}", "a } b { c abc}}"),
        ("{{.Nothing}}", "<nil>"),
        ("{{.Config.Env}}", "[A=1 B]"),
        ("{{.Config.Labels}}", "map[a:b k:v]"),
        ("{{.Config.Labels.k}}{{.Config.Labels.none}}{{json .Config.Labels.none}}", "v<no value>null"),
        ("{{.Nothing.Inner}}", "<no value>"),
        ("{{.Config.Empty}}", "[]"),
        ("{{json .ID}} {{json .Config.Env}} {{json  .Nothing}}", '"abc" ["A=1","B"] null'),
    ],
)
def test_template_shows_fields_as_go_does(text: str, shown: str) -> None:
    """Templates written for Docker give what Docker gives."""
    assert parse(text).render(ROW) == shown


def test_whole_row_as_json_has_every_field() -> None:
    """`{{json .}}` hides nothing."""
    assert json.loads(parse("{{json .}}").render(ROW)) == ROW


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("{{.ID}} {{upper .ID}}", 9),
        ("{{.ID | json}}", 1),
        ("{{range .Config.Env}}{{.}}{{end}}", 1),
        ("x{{if .ID}}", 2),
        ("{{.}}", 1),
        ("{{}}", 1),
        ("{{ID}}", 1),
        ("{{.ID", 1),
        ('{{"x"}}', 1),
        ("{{- .ID -}}", 1),
        ("{{json .ID .Size}}", 1),
        ("ab {{.Config.}}", 4),
    ],
)
def test_anything_else_is_refused_with_its_place(text: str, column: int) -> None:
    """Who writes more than is understood learns where, and what is."""
    with pytest.raises(InvalidArgument, match=f"column {column}:") as caught:
        parse(text)
    assert "{{json .Field}}" in caught.value.next_step


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("{{.Nope}}", "fields are .ID, .Size, .Whole, .Nothing, .Config"),
        ("{{.Config.Nope}}", "fields are .Config.Env, .Config.Labels, .Config.Empty"),
        ("{{json .id}}", "fields are .ID, .Size, .Whole, .Nothing, .Config"),
        ("{{.ID.Inner}}", "write {{.ID}}: it has no fields inside"),
    ],
)
def test_field_that_does_not_exist_is_refused_with_those_that_do(text: str, advice: str) -> None:
    """A misspelt field is never shown as nothing."""
    with pytest.raises(InvalidArgument) as caught:
        parse(text).render(ROW)
    assert caught.value.next_step == advice


def test_table_aligns_columns_below_their_headers(capsys: pytest.CaptureFixture[str]) -> None:
    """`table` makes of a template what the listing itself looks like."""
    show(
        r"table {{.ID}}\t{{.Tag}} x",
        [{"ID": "a", "Tag": "long"}, {"ID": "bbbb", "Tag": ""}],
        {"ID": "ID", "Tag": "TAG"},
    )
    assert capsys.readouterr().out == "ID     TAG x\na      long x\nbbbb    x\n"


@pytest.mark.parametrize("text", ["{{.Nope}}", r"table {{.Nope}}"])
def test_unknown_field_is_refused_also_when_there_is_no_row(text: str) -> None:
    """A wrong template does not work by chance."""
    with pytest.raises(InvalidArgument, match=r"no field \.Nope"):
        show(text, [], {"ID": "ID"})


def test_objects_make_no_table() -> None:
    """What has no columns says so."""
    with pytest.raises(InvalidArgument, match="no table"):
        show_objects("table {{.ID}}", [ROW])


@given(st.text(), st.sampled_from(["{{.V}}", "{{json .V}}", "{{.M}}"]))
def test_no_value_can_steer_the_terminal(value: str, text: str) -> None:
    """Whatever an image says of itself comes out printable, and as JSON comes back the same."""
    shown = parse(text).render({"V": value, "M": {value: [value]}})
    assert shown.isprintable()
    if "json" in text:
        assert json.loads(shown) == value


@given(st.text(alphabet='{}.jsonIDabc \\t"|-', max_size=30))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    """No template makes the command fail in another way than by refusing it."""
    try:
        parse(text).render({"ID": "x"})
    except InvalidArgument:
        pass
