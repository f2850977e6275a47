"""Archives of files: tar headers read and written, blobs decompressed within bounds, what a process gives up to read them.

Used by small worker processes that are started without site packages, so the modules that read import next to nothing and
say ``TYPE_CHECKING = False`` themselves.
"""
