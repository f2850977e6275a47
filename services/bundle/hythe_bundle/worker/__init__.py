"""The unpack worker: a process of its own that applies one layer inside a chroot (ARCHITECTURE §5).

It is started without site packages and imports next to nothing, because it starts once a layer; it never imports the
rest of Hythe. For the same reason its modules say ``TYPE_CHECKING = False`` themselves: importing `typing` and
`collections.abc` would cost as much as all the rest.
"""
