"""Flags of Docker's that Hythe doesn't have yet: each is refused by a sentence, not as a typing error."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

_FLAGS = (
    (("-t", "--tty"), 0, "there are no terminals yet; -i alone passes stdin on"),
    (("-P", "--publish-all"), 0, "there are no published ports yet; --network host has those of the host"),
    (("-p", "--publish"), 1, "there are no published ports yet; --network host has those of the host"),
    (("--restart",), 1, "there are no restart policies yet; a container that ends stays ended"),
)


class _Missing(argparse.Action):
    """Refuses its flag, and says what there is instead."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> Never:
        parser.error(f"{self.option_strings[0]}: {self.metavar}")


def missing_arguments(parser: argparse.ArgumentParser) -> None:
    """Refuse flags that users of Docker are used to; help doesn't show them."""
    for names, count, text in _FLAGS:
        parser.add_argument(*names, action=_Missing, nargs=count, metavar=text, default=None, help=argparse.SUPPRESS)
