"""The copy worker: a process of its own that reads or writes files inside one container's root (ADR 0033).

It is started without site packages and gives up all that copying does not need before it looks at the first name.
"""
