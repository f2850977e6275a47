"""Image references: one spelling for each image, Docker's short forms, and clear refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.reference import MAX_REFERENCE_LENGTH, Reference, bundle_reference, is_bundle, parse_reference

DIGEST = "sha256:" + "ab" * 32

labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
ports = st.integers(1, 65535).map(lambda port: f":{port}")
hosts = st.one_of(
    st.builds("{}.{}".format, labels, labels),
    st.builds("{}.{}{}".format, labels, labels, ports),
    st.builds("{}{}".format, labels, ports),
    st.builds("localhost{}".format, st.one_of(st.just(""), ports)),
    st.builds("[{}]{}".format, st.sampled_from(["::1", "fe80::1", "2001:db8::8:800:200c:417a"]), ports),
)
words = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
separators = st.sampled_from([".", "_", "__", "-", "---"])
components = st.one_of(words, st.builds("{}{}{}".format, words, separators, words))
repositories = st.lists(components, min_size=1, max_size=4).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(Digest)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """Any normalised reference."""
    host = draw(st.one_of(st.just("docker.io"), hosts))
    repository = draw(repositories)
    if host == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    digest = draw(st.none() | digests)
    tag = draw(tags if digest is None else st.none() | tags)
    return Reference(host, repository, tag, digest)


@given(references())
def test_canonical_text_is_read_back_as_the_same_reference(reference: Reference) -> None:
    """Writing a reference down and reading it again changes nothing."""
    assert parse_reference(str(reference)) == reference


@given(references())
def test_familiar_text_is_read_back_as_the_same_reference(reference: Reference) -> None:
    """The short form that people are shown means the same image."""
    assert parse_reference(reference.familiar) == reference
    assert len(reference.familiar) <= len(str(reference))


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_an_invalid_argument(text: str) -> None:
    """No text does anything but parse or be refused with a next step."""
    try:
        reference = parse_reference(text)
    except InvalidArgument as error:
        assert error.message
    else:
        assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("127.0.0.1:5000/a/b:x", "127.0.0.1:5000/a/b:x"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("registry.example/app", "registry.example/app:latest"),
        ("Registry/app", "Registry/app:latest"),
        ("h:80/app", "h:80/app:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"busybox:1.36@{DIGEST}", f"docker.io/library/busybox:1.36@{DIGEST}"),
        ("a.b/c:T_a-g.0", "a.b/c:T_a-g.0"),
        ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
    ],
)
def test_reference_is_normalised_as_docker_does(text: str, canonical: str) -> None:
    """Host, ``library/`` and ``latest`` are filled in where a short form leaves them out."""
    assert str(parse_reference(text)) == canonical


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "characters"),
        ("x" * (MAX_REFERENCE_LENGTH + 1), "characters"),
        ("a" * 64, "image id"),
        ("Busybox", "lower case"),
        ("team/App", "lower case"),
        ("busybox:", "tag"),
        ("busybox:-x", "tag"),
        (f"busybox:{'t' * 129}", "tag"),
        ("busybox:a:b", "tag"),
        ("busybox@", "digest"),
        ("busybox@sha256:abc", "digest"),
        ("busybox@md5:abc", "digest"),
        (f"busybox@{DIGEST}@{DIGEST}", "digest"),
        ("a//b", "repository"),
        ("/a", "repository"),
        ("a/", "repository"),
        ("a b", "repository"),
        ("a\n", "repository"),
        ("a/../b", "repository"),
        ("a___b", "repository"),
        (".a/b", "host"),
        ("http://host/app", "host"),
        ("host:x/app", "host"),
        ("host:0/app", "port"),
        ("host:70000/app", "port"),
        ("h.x/" + "/".join(["abcdefgh"] * 30), "longer"),
        ("é.example/app", "host"),
        ("app:tàg", "tag"),
        ("-h.example/app", "host"),
        ("user@host/app", "digest"),
    ],
)
def test_broken_reference_is_refused_with_its_part(text: str, part: str) -> None:
    """The refusal names the part that is wrong."""
    with pytest.raises(InvalidArgument) as raised:
        parse_reference(text)
    assert part in raised.value.message


def test_digest_decides_what_is_asked_for() -> None:
    """With tag and digest, the registry is asked for the digest; without, for the tag."""
    assert parse_reference(f"app:1@{DIGEST}").version == DIGEST
    assert parse_reference("app:1").version == "1"
    assert parse_reference("app").version == "latest"


def test_familiar_form_never_moves_an_image_to_another_host() -> None:
    """A path on Docker Hub that looks like a host keeps ``docker.io/`` in front."""
    for text in ("docker.io/localhost/app", "docker.io/a.b/app", "docker.io/index.docker.io/app"):
        assert parse_reference(parse_reference(text).familiar) == parse_reference(text)
        assert parse_reference(text).familiar.startswith("docker.io/")


def test_bundle_directory_is_told_from_every_image() -> None:
    """What stands for a bundle directory is no image's reference, and no image's reference is taken for one."""
    text = bundle_reference("/srv/a b")
    assert text == "bundle:/srv/a b" and is_bundle(text)
    with pytest.raises(InvalidArgument):
        parse_reference(bundle_reference("/srv/web"))
    assert not any(is_bundle(str(parse_reference(image))) for image in ("bundle", "bundle:1", "bundle:5000/srv"))


@pytest.mark.parametrize("directory", ["", "srv", "/srv/", "/srv/..", "/srv//a", "//srv", "/a\0b", "/" + "a" * 4095])
def test_path_that_is_not_plain_and_absolute_is_no_bundle_directory(directory: str) -> None:
    """One directory has one spelling."""
    with pytest.raises(InvalidArgument):
        bundle_reference(directory)
