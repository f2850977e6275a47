CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    since TEXT NOT NULL
) STRICT;

CREATE TABLE store (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    era INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    reference TEXT NOT NULL,
    digest TEXT NOT NULL,
    host TEXT NOT NULL,
    spec TEXT NOT NULL,
    desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'removed')),
    phase TEXT NOT NULL CHECK (phase IN ('creating', 'created', 'removing')),
    era INTEGER NOT NULL,
    epoch_revision INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    wish_hash TEXT NOT NULL,
    lease_s REAL NOT NULL,
    lease_until_ms INTEGER NOT NULL,  -- CLOCK_BOOTTIME of this boot; 0: no lease
    changed_ns INTEGER NOT NULL       -- wall clock, for purging
) STRICT;
CREATE UNIQUE INDEX container_names ON containers (namespace, name) WHERE phase <> 'removing';
CREATE INDEX container_ids ON containers (namespace, id);
CREATE INDEX containers_unsettled ON containers (phase, changed_ns) WHERE phase <> 'created';

-- ids of containers whose record is deleted: a late repetition of their request must not make them again
CREATE TABLE gone (
    id TEXT PRIMARY KEY,
    changed_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_by_age ON gone (changed_ns);

CREATE TABLE images (
    namespace TEXT NOT NULL,
    reference TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (namespace, reference)
) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    namespace TEXT NOT NULL,
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    result TEXT NOT NULL,
    changed_ns INTEGER NOT NULL,
    PRIMARY KEY (namespace, caller, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_age ON requests (changed_ns);

CREATE TABLE event_numbers (
    namespace TEXT NOT NULL,
    noun TEXT NOT NULL,
    object_id TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (namespace, noun, object_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    noun TEXT NOT NULL,
    object_id TEXT NOT NULL,
    past TEXT NOT NULL,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    time TEXT NOT NULL,
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    attributes TEXT NOT NULL
) STRICT;
