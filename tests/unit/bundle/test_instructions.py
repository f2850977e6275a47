"""Instructions as in a Dockerfile: what each makes of an image's config, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.errors import InvalidArgument
from hythe_bundle.instructions import apply_instructions

BASE: dict[str, Any] = {"Env": ["PATH=/bin", "HOME=/root"], "Cmd": ["old"], "WorkingDir": "/srv", "Labels": {"a": "1"}}


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        (['CMD ["sh", "-c", "date"]'], {"Cmd": ["sh", "-c", "date"]}),
        (["cmd echo $HOME"], {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        (['ENTRYPOINT ["/init"]'], {"Entrypoint": ["/init"], "Cmd": None}),
        (['CMD ["x"]', 'ENTRYPOINT ["/init"]'], {"Entrypoint": ["/init"], "Cmd": ["x"]}),
        (["ENV A=b C='d e' PATH=$PATH:/x"], {"Env": ["PATH=/bin:/x", "HOME=/root", "A=b", "C=d e"]}),
        (["ENV A b c"], {"Env": ["PATH=/bin", "HOME=/root", "A=b c"]}),
        (
            ["ENV A='$HOME' B=${HOME}x C=\\$HOME D=$NONE."],
            {"Env": [*BASE["Env"], "A=$HOME", "B=/rootx", "C=$HOME", "D=."]},
        ),
        (['LABEL b=2 c="3 4"'], {"Labels": {"a": "1", "b": "2", "c": "3 4"}}),
        (
            ["EXPOSE 80 53/udp 8000-8001"],
            {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}},
        ),
        (["VOLUME /data /more"], {"Volumes": {"/data": {}, "/more": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["USER 12:34"], {"User": "12:34"}),
        (["WORKDIR sub", "WORKDIR ../up"], {"WorkingDir": "/srv/up"}),
        (["WORKDIR /abs/$HOME"], {"WorkingDir": "/abs/root"}),
        (["STOPSIGNAL SIGRTMIN+3"], {"StopSignal": "SIGRTMIN+3"}),
        (["STOPSIGNAL 9"], {"StopSignal": "9"}),
    ],
)
def test_instruction_changes_what_it_says(instructions: list[str], expected: dict[str, Any]) -> None:
    """Each instruction does what it does in a Dockerfile, and nothing else."""
    changed = apply_instructions(BASE, instructions)
    assert changed == {key: value for key, value in {**BASE, **expected}.items() if value is not None}
    assert BASE["Cmd"] == ["old"] and BASE["Labels"] == {"a": "1"}


@pytest.mark.parametrize(
    ("instruction", "word"),
    [
        ("RUN date", "RUN is none of"),
        ("ONBUILD USER x", "ONBUILD is none of"),
        ("", "nothing is none of"),
        ("CMD", "nothing follows"),
        ("ENV A", "key=value"),
        ("ENV A=b C", "key=value"),
        ("LABEL =x", "key=value"),
        ("LABEL a='b", "never closed"),
        ("EXPOSE 0", "no port"),
        ("EXPOSE 99999", "no port"),
        ("EXPOSE 20-10", "no port"),
        ("EXPOSE 80/icmp", "no port"),
        ("USER a b", "one word"),
        ("WORKDIR $NONE", "one word"),
        ("STOPSIGNAL rm -rf", "one word"),
        ("STOPSIGNAL 'x y'", "no signal"),
        ('VOLUME ["", "a"]', "empty"),
    ],
)
def test_bad_instruction_is_refused_by_its_text(instruction: str, word: str) -> None:
    """What is no instruction, or makes no sense, is shown with the reason."""
    with pytest.raises(InvalidArgument, match=word) as raised:
        apply_instructions(BASE, [instruction])
    assert repr(instruction) in raised.value.message


@given(
    st.lists(st.text(max_size=30), max_size=3), st.sampled_from(["ENV ", "LABEL ", "EXPOSE ", "VOLUME ", "CMD ", ""])
)
def test_any_text_is_an_instruction_or_refused(texts: list[str], word: str) -> None:
    """Whatever is written, the answer is a config or the one error."""
    try:
        apply_instructions(BASE, [word + text for text in texts])
    except InvalidArgument:
        pass
