"""The library for zstd, where it is installed: part of the package's extra `bundle`."""

from __future__ import annotations

from hythe_distribution.archive.compression import Codec

_WINDOW_LOG = 27


def load_zstd() -> Codec | None:
    """Return how to undo zstd with windows of at most 128 MiB; None where the library isn't installed."""
    try:
        from backports import zstd
    except ImportError:
        return None
    options = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG}
    return Codec(lambda: zstd.ZstdDecompressor(options=options), (zstd.ZstdError,))
