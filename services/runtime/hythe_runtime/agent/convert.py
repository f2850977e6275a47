"""Between messages and what the agent's domain works with; converts, decides nothing."""

from __future__ import annotations

from hythe import clock, tracing
from hythe.wire.agent import ContainerRun, ContainerStatus
from hythe.wire.container import Epoch as WireEpoch
from hythe.wire.container import ImageRef
from hythe_runtime.agent.model import Epoch, Intent, Status


def epoch_from_wire(epoch: WireEpoch) -> Epoch:
    """Return the domain form of an epoch."""
    return Epoch(epoch.era, epoch.revision)


def intent_from_wire(request: ContainerRun, namespace: str, caller: str) -> Intent:
    """Return what a request to run asks for; `caller` is who asked first."""
    return Intent(
        id=request.id,
        namespace=namespace,
        name=request.name,
        reference=request.image.reference,
        digest=request.image.digest or "",
        spec=request.spec.model_dump(mode="json", exclude_defaults=True),
        plain_http=request.plain_http,
        epoch=epoch_from_wire(request.epoch),
        request_id=request.id,
        trace_id=tracing.trace_id(),
        created_at=clock.now_rfc3339(),
        caller=caller,
    )


def status_to_wire(status: Status, host: str, instance: str) -> ContainerStatus:
    """Return the message that reports `status`."""
    record, intent = status.record, status.record.intent
    command = list(record.bundle.args) if record.bundle else list(intent.spec.get("args") or ())
    return ContainerStatus(
        id=record.id,
        namespace=intent.namespace,
        name=intent.name,
        image=ImageRef(reference=intent.reference, digest=intent.digest or None),
        host=host,
        status=record.state,
        run=record.run,
        pid=record.pid if record.state in ("created", "running") else 0,
        exit_code=record.exit.code if record.exit else None,
        reason=record.reason,
        created_at=record.created_at or intent.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        auto_remove=intent.auto_remove,
        command=command,
        labels=intent.labels,
        epoch=WireEpoch(era=record.epoch.era, revision=record.epoch.revision),
        instance=instance,
        change=status.change,
    )
