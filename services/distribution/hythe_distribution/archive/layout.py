"""The OCI image layout: ``oci-layout``, ``index.json`` and blobs by digest, with Docker's ``manifest.json`` beside it or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hythe.digest import Digest
from hythe.errors import InvalidArgument
from hythe.oci import Index, parse_document
from hythe.oci.fields import load_object
from hythe.oci.media_types import DOCUMENT_TYPES, OCI_INDEX
from hythe.reference import Reference
from hythe_distribution.archive.docker import repo_tags
from hythe_distribution.archive.graph import Walk
from hythe_distribution.archive.intake import Holdings
from hythe_distribution.archive.roots import Root, annotated

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
LAYOUT_VERSION = "1.0.0"


def is_layout(holdings: Holdings) -> bool:
    """Tell whether an archive says that it is an OCI layout."""
    return LAYOUT_FILE in holdings.documents and INDEX_FILE in holdings.documents


def layout_roots(holdings: Holdings, walk: Walk) -> tuple[Root, ...]:
    """Return the images of an OCI layout in their order; Docker's ``manifest.json`` adds the names that it knows.

    Raises:
        InvalidArgument: another version of the layout, a broken document, or no image in it. Entries of types that are
            no image are passed over.

    Spec: OCI image-spec, "Image Layout Specification".
    """
    version = load_object(holdings.documents[LAYOUT_FILE], LAYOUT_FILE).text("imageLayoutVersion")
    if version != LAYOUT_VERSION:
        raise InvalidArgument(
            f"import archive: OCI layout of version {version[:20]!r}, only {LAYOUT_VERSION} is supported"
        )
    index = parse_document(holdings.documents[INDEX_FILE], OCI_INDEX)
    assert isinstance(index, Index)
    roots = [annotated(entry) for entry in index.manifests if entry.media_type in DOCUMENT_TYPES]
    if not roots:
        raise InvalidArgument("import archive: its index.json names no image")
    return _with_docker_names(roots, repo_tags(holdings), walk)


def _with_docker_names(
    roots: Sequence[Root], tags: Mapping[Digest, Sequence[Reference]], walk: Walk
) -> tuple[Root, ...]:
    """Give each name that only Docker's list knows to the first root that has the config it stands for."""
    left = {name: config for config, names in tags.items() for name in names}
    for root in roots:
        for name in root.names:
            left.pop(name, None)
    found = []
    for root in roots:
        configs = walk.configs(root.target) if left else frozenset()
        more = tuple(name for name, config in left.items() if config in configs)
        for name in more:
            del left[name]
        found.append(replace(root, names=(*root.names, *more)))
    return tuple(found)
