"""A push: find the image, walk its tree, and send what is here of it to a registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from hythe import tracing
from hythe.digest import Digest
from hythe.errors import FailedPrecondition, InvalidArgument, NotFound
from hythe.holding import Held
from hythe.oci import Descriptor, Index, Manifest, Platform, default_platform, parse_document
from hythe.ports.content import Content
from hythe.ports.leases import Referred
from hythe.reference import Reference, parse_reference
from hythe_distribution.cancellation import Cancellation
from hythe_distribution.documents import has_blob, read_document
from hythe_distribution.hosts import Source, source_of
from hythe_distribution.image_labels import referrers_in, repositories_in
from hythe_distribution.lookup import Found
from hythe_distribution.progress import SendWatch
from hythe_distribution.publishing import Publisher
from hythe_distribution.sending import Sender, Sent
from hythe_distribution.tree import (
    Tree,
    check_nesting,
    check_total,
    describe_missing,
    everything,
    for_platform,
    grow,
    is_document,
)
from hythe_distribution.workers import Workers


class Finder(Protocol):
    """Finds the image that a user means."""

    async def find(self, namespace: str, text: str) -> Found:
        """See `hythe_distribution.lookup.Lookup.find`."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a push is asked for.

    Attributes:
        image: what is sent, as the user named it.
        target: where to; empty for the image's own reference.
        platform: send the manifest for this platform alone.
        all_platforms: refuse unless every entry of an index is here.
        referrers: send what is known here to be about the image, too.
    """

    image: str
    target: str = ""
    platform: Platform | None = None
    all_platforms: bool = False
    plain_http: bool = False
    referrers: bool = False


@dataclass(frozen=True, slots=True)
class Pushed:
    """Result of a push or copy: what `reference` points to now."""

    reference: str
    digest: Digest
    sent: Sent
    referrers: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    tree: Tree
    left_out: tuple[Descriptor, ...]
    about: tuple[Tree, ...]


class Pusher:
    """Carries out pushes."""

    def __init__(
        self, lookup: Finder, content: Content, publisher: Publisher, sender: Sender, workers: Workers
    ) -> None:
        """Read content and labels in threads of `workers`; the sender has its own."""
        self._lookup = lookup
        self._content = content
        self._publisher = publisher
        self._sender = sender
        self._workers = workers

    async def push(self, namespace: str, order: Order, held: Held, watch: SendWatch) -> Pushed:
        """Send an image from this host's content to a registry.

        Of an index without `Order.platform`, the index is sent with all of its entries that are here whole; unless
        `Order.all_platforms`, only the one for this host must be. Nothing is sent unless all that must be is here; it is
        held from before that is looked at, so that an image whose last name goes meanwhile is sent whole.

        Raises:
            NotFound: there is no such image, or nothing in it for the platform.
            FailedPrecondition: something that is needed is not here, or the registry insists on what was left out.
            InvalidArgument: the target names another digest, or both one and all platforms are asked for.
            HytheError: see `Sender.send`.
        """
        if order.platform and order.all_platforms:
            raise InvalidArgument(f"push {order.image}: one platform and all platforms exclude each other")
        found = await self._lookup.find(namespace, order.image)
        root = found.digest
        target = _target(order, found.name)
        order = replace(order, image=found.name or order.image)
        await held.refer([Referred(root)])
        with tracing.span("plan push", container__image__name=str(target), oci__manifest__digest=str(root)):
            plan = await self._workers.run(None, self._plan, namespace, root, order)
        digest = plan.tree.root.digest
        check_target("push", target, digest)
        sent = await self._send(namespace, target, plan, order.plain_http, watch)
        for tree in plan.about:
            sent += await self._send_tree(namespace, target, tree, str(tree.root.digest), order.plain_http, watch)
        return Pushed(str(target), digest, sent, tuple(tree.root.digest for tree in plan.about))

    async def _send(self, namespace: str, target: Reference, plan: _Plan, plain_http: bool, watch: SendWatch) -> Sent:
        version = target.tag or target.version
        try:
            return await self._send_tree(namespace, target, plan.tree, version, plain_http, watch)
        except InvalidArgument as error:
            if not plan.left_out:
                raise
            raise FailedPrecondition(
                f"push {target}: the registry does not take an index with entries that are not here: "
                f"{describe_missing(plan.left_out)}",
                cause=error.whole,
                next_step="pull the image with --all-platforms first, or push one --platform",
            ) from error

    async def _send_tree(
        self, namespace: str, target: Reference, tree: Tree, version: str, plain_http: bool, watch: SendWatch
    ) -> Sent:
        source = source_of(target, plain_http)
        return await self._sender.send(
            source, tree, version, self._read, lambda digest: self._mount_from(namespace, source, digest), watch
        )

    def _read(self, blob: Descriptor, offset: int, cancellation: Cancellation) -> Iterator[bytes]:
        for chunk in self._content.read(blob.digest, offset):
            cancellation.check()
            yield chunk

    def _mount_from(self, namespace: str, target: Source, digest: Digest) -> tuple[str, ...]:
        return repositories_in(self._publisher.labels(namespace, digest), target.host)

    def _plan(self, namespace: str, root: Digest, order: Order) -> _Plan:
        shelf = _Shelf(self._content)
        raw = read_document(self._content, root)
        if raw is None:
            raise _not_here(order.image, str(root), order)
        document = parse_document(raw)
        if order.platform is not None:
            tree = _only(shelf, document, order.platform, order)
        elif order.all_platforms or isinstance(document, Manifest):
            tree = grow(document.descriptor, shelf.read, everything, shelf.has)
        else:
            return self._planned(namespace, shelf, _partial(shelf, document, order), document, order)
        if tree.missing:
            raise _not_here(order.image, describe_missing(tree.missing), order)
        return self._planned(namespace, shelf, tree, document, order)

    def _planned(self, namespace: str, shelf: _Shelf, tree: Tree, document: Manifest | Index, order: Order) -> _Plan:
        sent = {node.descriptor.digest for node in tree.nodes} | {entry.digest for entry in tree.opaque}
        left_out = (
            ()
            if order.platform or isinstance(document, Manifest)
            else tuple(entry for entry in document.manifests if entry.digest not in sent)
        )
        about = self._known_referrers(namespace, shelf, tree) if order.referrers else ()
        return _Plan(tree, left_out, about)

    def _known_referrers(self, namespace: str, shelf: _Shelf, tree: Tree) -> tuple[Tree, ...]:
        """Return the trees of what the namespace knows to be about the documents, as far as they are here whole."""
        found = {
            digest: None
            for node in tree.nodes
            for digest in referrers_in(self._publisher.labels(namespace, node.descriptor.digest))
        }
        trees = []
        for digest in found:
            raw = read_document(self._content, digest)
            if raw is not None:
                about = grow(parse_document(raw).descriptor, shelf.read, everything, shelf.has)
                trees += [] if about.missing else [about]
        return tuple(trees)


class _Shelf:
    """Reads documents of the content store for `grow`, each once."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._documents: dict[Digest, Manifest | Index | None] = {}
        self._total_bytes = 0

    def read(self, descriptor: Descriptor) -> Manifest | Index | None:
        if descriptor.digest not in self._documents:
            raw = read_document(self._content, descriptor.digest)
            self._total_bytes += len(raw or b"")
            check_total(str(descriptor.digest), len(self._documents), self._total_bytes)
            document = None if raw is None else parse_document(raw, descriptor.media_type)
            self._documents[descriptor.digest] = document
        return self._documents[descriptor.digest]

    def has(self, descriptor: Descriptor) -> bool:
        return has_blob(self._content, descriptor.digest)

    def choose(self, index: Index) -> Sequence[Descriptor]:
        """Choose the entries that are here."""
        return [entry for entry in index.manifests if self.keeps(entry)]

    def keeps(self, entry: Descriptor, depth: int = 1) -> bool:
        """Tell whether an entry of an index is here whole, or for a nested index, an entry of it."""
        if not is_document(entry):
            return self.has(entry)
        check_nesting(f"read {entry.digest}", depth)
        document = self.read(entry)
        if isinstance(document, Index):
            return any(self.keeps(nested, depth + 1) for nested in document.manifests)
        return not grow(entry, self.read, everything, self.has).missing


def check_target(what: str, target: Reference, digest: Digest) -> None:
    """Return if `target` can point to `digest`.

    Raises:
        InvalidArgument: it names another digest.
    """
    if target.digest not in (None, digest):
        raise InvalidArgument(
            f"{what} {target}: what is sent is {digest}", next_step="name a tag, or the digest of what is sent"
        )


def _target(order: Order, reference: str) -> Reference:
    if not (order.target or reference):
        raise InvalidArgument(f"push {order.image}: it has no name", next_step="say where to")
    return parse_reference(order.target or reference)


def _only(shelf: _Shelf, document: Manifest | Index, platform: Platform, order: Order) -> Tree:
    """Return the tree of the manifest for one platform, without any index above it."""
    tree = grow(document.descriptor, shelf.read, for_platform(platform), shelf.has)
    if not tree.manifests:
        raise _not_here(order.image, describe_missing(tree.missing), order)
    return grow(tree.manifests[0].document.descriptor, shelf.read, everything, shelf.has)


def _partial(shelf: _Shelf, index: Index, order: Order) -> Tree:
    """Return the tree of an index with the entries that are here whole; the one for this host must be, if there is one."""
    try:
        own = grow(index.descriptor, shelf.read, for_platform(default_platform()), shelf.has)
    except NotFound:
        own = None
    if own is not None and own.missing:
        raise _not_here(order.image, describe_missing(own.missing), order)
    tree = grow(index.descriptor, shelf.read, shelf.choose, shelf.has)
    if not tree.manifests:
        raise _not_here(order.image, "each of its manifests", order)
    return tree


def _not_here(image: str, what: str, order: Order) -> FailedPrecondition:
    flag = f" --platform {order.platform}" if order.platform else " --all-platforms" if order.all_platforms else ""
    return FailedPrecondition(
        f"push {image}: not all of it is on this host",
        cause=f"missing: {what}",
        next_step=f"`hythe pull{flag} {image}` brings it",
        details={"kind": "blob"},
    )
