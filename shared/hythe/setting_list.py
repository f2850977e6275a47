"""Each setting of Hythe: its key, its environment variable, its default, its unit and its meaning."""

from __future__ import annotations

DEFAULT_ROOT = "/var/lib/hythe"


class Setting:
    """One setting: its key in the file, its environment variable, its default as text, and what it means.

    Attributes:
        secret: its value is never shown.
        only: the one service that gets it from `hythe up`; empty for all.
    """

    __slots__ = ("default", "key", "meaning", "only", "secret", "variable")

    def __init__(
        self, key: str, variable: str, default: str, meaning: str, *, secret: bool = False, only: str = ""
    ) -> None:
        self.key = key
        self.variable = variable
        self.default = default
        self.meaning = meaning
        self.secret = secret
        self.only = only


ALL: tuple[Setting, ...] = (
    Setting("root", "HYTHE_ROOT", DEFAULT_ROOT, "directory of everything that survives a reboot"),
    Setting("state", "HYTHE_STATE", "/run/hythe", "directory of what one boot needs: sockets, pipes, run directories"),
    Setting("host", "HYTHE_HOST", "", "name of this host; the machine's host name by default"),
    Setting("namespace", "HYTHE_NAMESPACE", "default", "namespace that commands work in"),
    Setting(
        "cgroup_parent",
        "HYTHE_CGROUP_PARENT",
        "",
        "cgroup below which containers and monitors live; by default `hythe`, and one named after the root for another root",
    ),
    Setting("nats_url", "NATS_URL", "", "bus to use; by default the one that `hythe up` started"),
    Setting("nats_port", "HYTHE_NATS_PORT", "0", "port for the bus of `hythe up`; 0 picks a free one and keeps it"),
    Setting(
        "nats_server", "HYTHE_NATS_SERVER", "", "nats-server program; by default looked for beside python, then PATH"
    ),
    Setting("events_age", "HYTHE_EVENTS_AGE", "604800", "seconds that the stream of events keeps each; 0: for ever"),
    Setting("events_bytes", "HYTHE_EVENTS_BYTES", "536870912", "bytes of the stream of events; the oldest go first"),
    Setting("key", "HYTHE_KEY", "", "file of the bus key (nkey seed); <root>/keys/admin.nk by default"),
    Setting(
        "log_level", "HYTHE_LOG_LEVEL", "info", "least severe level that services log: debug, info, warning, error"
    ),
    Setting(
        "disk_reserve", "HYTHE_DISK_RESERVE", "33554432", "bytes of <root> kept free: create, start and pull stop there"
    ),
    Setting(
        "metadata_url",
        "HYTHE_METADATA_URL",
        "",
        "where records are kept: sqlite:///FILE (<root>/metadata/metadata.db by default) or "
        "redis://[USER:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME], rediss:// for TLS, unix:///SOCKET",
        secret=True,
        only="metadata",
    ),
    Setting(
        "metadata_allow_relaxed",
        "HYTHE_METADATA_ALLOW_RELAXED",
        "0",
        "1: a Redis with `appendfsync everysec` may keep records: what was acknowledged in its last second may be lost",
        only="metadata",
    ),
    Setting(
        "content_url",
        "HYTHE_CONTENT_URL",
        "",
        "where blobs are kept: file:///DIR (<root>/content by default) or s3://HOST:PORT/BUCKET[?secure=0]",
        only="distribution",
    ),
    Setting("s3_access_key", "HYTHE_S3_ACCESS_KEY", "", "access key of the S3 store", secret=True, only="distribution"),
    Setting("s3_secret_key", "HYTHE_S3_SECRET_KEY", "", "secret key of the S3 store", secret=True, only="distribution"),
    Setting(
        "content_listen",
        "HYTHE_CONTENT_LISTEN",
        "127.0.0.1:0",
        "address that blobs are served at over HTTP; port 0 picks a free one",
        only="distribution",
    ),
    Setting(
        "hosts_dir",
        "HYTHE_HOSTS_DIR",
        "/etc/hythe/certs.d:/etc/containerd/certs.d",
        "directories of hosts.toml files (mirrors, certificates), joined by `:`; the first that has a registry's counts",
        only="distribution",
    ),
    Setting(
        "docker_config",
        "DOCKER_CONFIG",
        "",
        "directory of the config.json with registry logins; ~/.docker of the user who runs the stack by default",
        only="distribution",
    ),
    Setting(
        "token_servers",
        "HYTHE_TOKEN_SERVERS",
        "",
        "hosts outside a registry's own domain that may be sent its login: REGISTRY=HOST, joined by `,`",
        only="distribution",
    ),
    Setting(
        "verifier_dir",
        "HYTHE_VERIFIER_DIR",
        "",
        "directory of programs that must all allow an image before it is pulled; none by default",
        only="distribution",
    ),
    Setting(
        "snapshotter",
        "HYTHE_SNAPSHOTTER",
        "overlayfs",
        "how layers make a file system: overlayfs, or native (copies; works everywhere); a root that has snapshots keeps its own",
    ),
    Setting(
        "sync_layers",
        "HYTHE_SYNC_LAYERS",
        "on",
        "on: layers are on the disk before they count as unpacked; off only saves time: a power loss may leave an unpacked "
        "image with empty or missing files, and nothing notices",
        only="bundle",
    ),
    Setting(
        "gc_mutations",
        "HYTHE_GC_MUTATIONS",
        "100",
        "changes of metadata after which garbage is collected; 0: they don't count",
        only="metadata",
    ),
    Setting(
        "gc_deletions",
        "HYTHE_GC_DELETIONS",
        "0",
        "deletions after which garbage is collected at once; 0: after any, but never more often than HYTHE_GC_PAUSE allows",
        only="metadata",
    ),
    Setting(
        "gc_interval",
        "HYTHE_GC_INTERVAL",
        "600",
        "seconds after which garbage is collected in any case; 0: never",
        only="metadata",
    ),
    Setting(
        "gc_pause",
        "HYTHE_GC_PAUSE",
        "0.02",
        "part of all time that collections of garbage may take, 0 to 0.5; 0: they don't wait for each other",
        only="metadata",
    ),
    Setting("otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "", "OTLP/HTTP collector that spans are sent to as well"),
)
