"""What a container runs: the request's wishes over the image's, by Docker's rules."""

from __future__ import annotations

import pytest

from hythe.errors import InvalidArgument
from hythe.oci import ImageConfig, parse_config
from hythe_bundle import command
from hythe_bundle.wishes import NamespaceWishes, Wishes
from scripts.lab.images import ImageBuilder


def image(**settings: object) -> ImageConfig:
    """Return the config of an image with these settings."""
    return parse_config(ImageBuilder().config(**settings).build().config.data)


@pytest.mark.parametrize(
    ("entrypoint", "args", "expected"),
    [
        (None, (), ["/entry", "-e", "cmd"]),
        (None, ("mine",), ["/entry", "-e", "mine"]),
        (("own",), (), ["own"]),
        (("own", "-x"), ("mine",), ["own", "-x", "mine"]),
        ((), ("mine",), ["mine"]),
        (("",), ("mine",), ["mine"]),
    ],
)
def test_command_is_entrypoint_and_arguments(
    entrypoint: tuple[str, ...] | None, args: tuple[str, ...], expected: list[str]
) -> None:
    """Arguments replace the image's; an entry point of one's own drops the image's arguments with its entry point."""
    config = image(Entrypoint=["/entry", "-e"], Cmd=["cmd"])
    assert command.arguments(Wishes(args=args, entrypoint=entrypoint), config) == expected


@pytest.mark.parametrize("wishes", [Wishes(), Wishes(entrypoint=("",)), Wishes(args=("",)), Wishes(args=("a\0b",))])
def test_command_that_is_none_is_refused(wishes: Wishes) -> None:
    """Nothing to run, or a word that no kernel takes, is said before anything is made."""
    with pytest.raises(InvalidArgument):
        command.arguments(wishes, image())


@pytest.mark.parametrize("settings", [{"Cmd": ["/" + "x" * 4095]}, {"Cmd": ["sh"], "WorkingDir": "/" + "é" * 2048}])
def test_path_that_no_kernel_takes_is_refused(settings: dict[str, object]) -> None:
    """Else conmon would wait for ever over the complaint of runc, which repeats the whole of it."""
    config = image(**settings)
    with pytest.raises(InvalidArgument, match="longer than 4095 bytes"):
        command.working_directory(Wishes(), config)
        command.arguments(Wishes(), config)
    assert command.arguments(Wishes(args=("/" + "x" * 4094, "y" * 5000)), image())


def test_environment_is_merged_by_name() -> None:
    """The request's variables win, a bare name takes one away, and there is a PATH and a HOSTNAME in any case."""
    config = image(Env=["A=1", "B=2", "C=x=y", "A=3"])
    assert command.environment(Wishes(env=("B=new", "C", "D=")), config, "h") == [
        command.DEFAULT_PATH,
        "HOSTNAME=h",
        "A=3",
        "B=new",
        "D=",
    ]
    assert command.environment(Wishes(), image(Env=["PATH=/own"]), "h")[0] == "PATH=/own"


@pytest.mark.parametrize("entry", ["=x", "", "A=\0"])
def test_variable_without_name_is_refused(entry: str) -> None:
    """An entry that is no variable is refused."""
    with pytest.raises(InvalidArgument):
        command.environment(Wishes(env=(entry,)), image(), "h")


@pytest.mark.parametrize(
    ("wish", "of_image", "expected"),
    [
        ("", "", "/"),
        ("", "/srv", "/srv"),
        ("/a//b/../c/", "/srv", "/a/c"),
        ("", "rel/dir", "/rel/dir"),
        ("/procx", "", "/procx"),
    ],
)
def test_working_directory_is_absolute(wish: str, of_image: str, expected: str) -> None:
    """The request's directory, else the image's, else the root, without detours."""
    assert command.working_directory(Wishes(cwd=wish), image(WorkingDir=of_image)) == expected


@pytest.mark.parametrize("cwd", ["/proc/self/fd/7", "/proc", "/x/../proc/self/fd/../fd/9", "//proc/1/cwd", "relative"])
def test_working_directory_in_proc_is_refused(cwd: str) -> None:
    """No working directory through an open descriptor of the runtime (CVE-2024-21626), whoever asks for it."""
    with pytest.raises(InvalidArgument):
        command.working_directory(Wishes(cwd=cwd), image())
    if cwd.startswith("/"):
        with pytest.raises(InvalidArgument):
            command.working_directory(Wishes(), image(WorkingDir=cwd))


def test_host_name_is_the_id_s_or_the_hosts() -> None:
    """Without a wish it is the id's start, or on the host's network the host's."""
    container_id = "0123456789abcdef" * 2
    assert command.hostname(Wishes(), container_id, "big") == "0123456789ab"
    assert command.hostname(Wishes(network="host"), container_id, "big") == "big"
    assert command.hostname(Wishes(hostname="web-1.lab"), container_id, "big") == "web-1.lab"
    assert command.hostname(Wishes(namespaces=NamespaceWishes(uts="host")), container_id, "big") == "big"
    for bad in ("-x", "a b", "x" * 65, "ü", "a\nb", "."):
        with pytest.raises(InvalidArgument):
            command.hostname(Wishes(hostname=bad), container_id, "big")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "SIGTERM"),
        ("SIGINT", "SIGINT"),
        ("quit", "SIGQUIT"),
        ("9", "SIGKILL"),
        ("SIGRTMIN+3", "37"),
        ("RTMAX-1", "63"),
        ("RTMIN", "34"),
        ("40", "40"),
    ],
)
def test_stop_signal_is_known_by_name_and_number(text: str, expected: str) -> None:
    """Names with and without SIG, numbers and real-time signals all mean one signal."""
    assert command.stop_signal(Wishes(stop_signal=text), image()) == expected
    assert command.stop_signal(Wishes(), image(StopSignal=text)) == expected


@pytest.mark.parametrize(
    "text", ["SIGNOPE", "0", "65", "-1", "99999999999999999999", "RTMIN+99", "\uff11\uff15", "RTMIN-1"]
)
def test_signal_that_is_none_is_refused(text: str) -> None:
    """An unknown signal in a request or an image is said, not taken for another."""
    with pytest.raises(InvalidArgument):
        command.stop_signal(Wishes(stop_signal=text), image())
