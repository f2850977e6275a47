"""Bytes in and out over HTTP: blobs to read, ingests to write, archives in both directions; every request has a ticket."""
