"""Who may import what: the contracts of `lint-imports`, and the table of outside packages."""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Each outside package and the modules that may import it; a pattern as of fnmatch on the module's dotted name.
OUTSIDE: dict[str, tuple[str, ...]] = {
    "nats": ("hythe.bus.*",),
    "nacl": ("hythe.bus.*",),
    "nkeys": ("hythe.bus.*",),
    "opentelemetry": ("hythe.telemetry.*",),
    "prometheus_client": ("hythe.metrics", "*.figures", "*.gc_figures"),
    "pydantic": ("hythe.wire.*", "hythe.bus.*", "*.handlers", "*.adapters.*", "hythe_runtime.controller.hosts"),
    "minio": ("hythe_distribution.adapters.*",),
    "urllib3": ("hythe_distribution.adapters.*",),
    "redis": ("hythe_metadata.adapters.*",),
    "sqlite3": (
        "hythe.outbox_table",
        "hythe_metadata.adapters.*",
        "hythe_bundle.adapters.*",
        "hythe_distribution.adapters.*",
    ),
    "isal": ("hythe.archive.*",),
    "backports": ("hythe.archive.*", "hythe_distribution.adapters.*"),
}
# What a service's own decisions may use of the shared library; the outer modules convert for them.
DOMAIN = {
    *("errors", "digest", "reference", "oci", "identifiers", "ports", "deadline", "clock", "tracing", "durable"),
    *(
        "asking",
        "failpoints",
        "subjects",
        "process",
        "filters",
        "labels",
        "patterns",
        "archive",
        "threads",
        "holding",
        "events",
        "gc_trust",
    ),
}
OUTER = (
    *(
        "*.handlers",
        "*_handlers",
        "*.wiring",
        "*.wiring_gc",
        "*.maintenance",
        "*.main",
        "*.__main__",
        "*.settings",
        "*.figures",
        "*.gc_figures",
        "*.adapters",
        "*.adapters.*",
    ),
    "*.convert",  # between messages and the domain's own records
    "*.worker.*",  # a process of its own, with its own imports
    "hythe_runtime.controller.hosts",  # listens to heartbeats and status reports
)
# What is not known by the domain; `hythe_x.adapters.y.Z` is how the import of a name looks.
KNOW_THE_DOMAIN = (
    "*.adapters.*",
    "*.handlers.*",
    "*_handlers.*",
    "*.wiring.*",
    "*.wiring_gc.*",
    "*.maintenance.*",
    "*.convert.*",
)
# The controller keeps nothing: it takes what one service says and hands it to another, so messages are its subject.
BETWEEN = ("hythe_runtime.controller.*",)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the dotted name and the syntax tree of every module of the product."""
    for top in (ROOT / "shared", *sorted((ROOT / "services").iterdir())):
        for path in sorted(top.rglob("*.py")):
            name = ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of each module that `tree` imports, but for type checking alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a module's name fits one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def test_import_contracts_are_kept() -> None:
    """The contracts in .importlinter hold: the shared library knows no service, services know none of each other."""
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_each_outside_package_is_imported_in_its_own_place() -> None:
    """Every package that is not ours is imported in one place only, so that it can be replaced there."""
    strays = []
    for name, tree in modules():
        for imported in imports(tree):
            allowed = OUTSIDE.get(imported.partition(".")[0])
            if allowed is not None and not matches(name, allowed):
                strays.append(f"{name} imports {imported}")
    assert strays == []


def test_decisions_of_a_service_know_neither_messages_nor_bus() -> None:
    """A service's domain modules use names, errors, digests, ports, clocks and spans of the shared library, nothing else."""
    strays = []
    for name, tree in modules():
        if name.partition(".")[0] == "hythe" or matches(name, OUTER):
            continue
        for imported in imports(tree):
            parts = imported.split(".")
            allowed = DOMAIN | {"wire"} if matches(name, BETWEEN) else DOMAIN
            if parts[0] == "hythe" and (len(parts) < 2 or parts[1] not in allowed):
                strays.append(f"{name} imports {imported}")
    assert strays == []


def test_decisions_of_a_service_know_nothing_that_touches_the_outside() -> None:
    """A service's domain modules import none of its adapters, handlers or wiring: those know the domain."""
    strays = []
    for name, tree in modules():
        if name.partition(".")[0] == "hythe" or matches(name, (*OUTER, *BETWEEN)):
            continue
        outer = {
            imported
            for imported in imports(tree)
            if imported.startswith("hythe_") and matches(imported, KNOW_THE_DOMAIN)
        }
        strays += [f"{name} imports {imported}" for imported in sorted(outer)]
    assert strays == []


def test_content_in_a_directory_loads_nothing_of_s3() -> None:
    """Who keeps content in a directory pays neither time nor memory for the SDK of S3."""
    code = "import sys, hythe_distribution.wiring; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"minio", "urllib3"} & set(done.stdout.split())


def test_command_line_starts_without_heavy_imports() -> None:
    """The entry of `hythe` loads neither asyncio nor pydantic, nats or opentelemetry, which would cost more than the work."""
    code = "import sys, hythe.cli.main; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "pydantic", "nats", "opentelemetry", "rich", "prometheus_client"} & set(done.stdout.split())
