"""What a request's message asks for, as the domain's own wishes."""

from __future__ import annotations

from hythe.wire import container as wire
from hythe_bundle.wishes import (
    DeviceWish,
    HookWish,
    IdRange,
    IoLimit,
    MountWish,
    NamespaceWishes,
    ResourceWishes,
    RlimitWish,
    SecurityWishes,
    Wishes,
)


def wishes_of(spec: wire.ContainerSpec) -> Wishes:
    """Return the wishes that `spec` spells; nothing is checked beyond what the message itself forbids."""
    return Wishes(
        args=tuple(spec.args),
        entrypoint=None if spec.entrypoint is None else tuple(spec.entrypoint),
        env=tuple(spec.env),
        cwd=spec.cwd,
        user=spec.user,
        groups=tuple(spec.groups),
        hostname=spec.hostname,
        domainname=spec.domainname,
        network=spec.network,
        read_only=spec.read_only,
        mounts=tuple(_mount(mount) for mount in spec.mounts),
        shm_bytes=spec.shm_bytes,
        devices=tuple(DeviceWish(each.source, each.target, each.permissions) for each in spec.devices),
        rlimits=tuple(RlimitWish(each.name, each.soft, each.hard) for each in spec.rlimits),
        resources=_resources(spec.resources),
        namespaces=_namespaces(spec.namespaces),
        security=_security(spec.security),
        sysctls=dict(spec.sysctls),
        oom_score_adj=spec.oom_score_adj,
        hooks=tuple(_hook(hook) for hook in spec.hooks),
        annotations=dict(spec.annotations),
        stop_signal=spec.stop_signal,
    )


def _mount(mount: wire.MountWish) -> MountWish:
    return MountWish(
        type=mount.type,
        target=mount.target,
        source=mount.source,
        read_only=mount.read_only,
        create=mount.create,
        no_copy=mount.no_copy,
        propagation=mount.propagation,
        options=tuple(mount.options),
    )


def _resources(resources: wire.ResourceWishes) -> ResourceWishes:
    return ResourceWishes(
        memory_bytes=resources.memory_bytes,
        memory_reservation_bytes=resources.memory_reservation_bytes,
        memory_swap_bytes=resources.memory_swap_bytes,
        memory_swappiness=resources.memory_swappiness,
        oom_kill_disable=resources.oom_kill_disable,
        cpus=resources.cpus,
        cpu_shares=resources.cpu_shares,
        cpu_period_us=resources.cpu_period_us,
        cpu_quota_us=resources.cpu_quota_us,
        cpuset_cpus=resources.cpuset_cpus,
        cpuset_mems=resources.cpuset_mems,
        pids=resources.pids,
        io_weight=resources.io_weight,
        io=tuple(
            IoLimit(each.path, each.read_bytes_s, each.write_bytes_s, each.read_ops_s, each.write_ops_s)
            for each in resources.io
        ),
        device_rules=tuple(resources.device_rules),
    )


def _namespaces(namespaces: wire.NamespaceWishes) -> NamespaceWishes:
    return NamespaceWishes(
        pid=namespaces.pid,
        ipc=namespaces.ipc,
        uts=namespaces.uts,
        cgroup=namespaces.cgroup,
        user_ids=tuple(_range(each) for each in namespaces.user_ids),
        group_ids=tuple(_range(each) for each in namespaces.group_ids),
    )


def _range(ids: wire.IdRange) -> IdRange:
    return IdRange(ids.container_id, ids.host_id, ids.size)


def _security(security: wire.SecurityWishes) -> SecurityWishes:
    return SecurityWishes(
        privileged=security.privileged,
        cap_add=tuple(security.cap_add),
        cap_drop=tuple(security.cap_drop),
        no_new_privileges=security.no_new_privileges,
        seccomp=security.seccomp,
        apparmor=security.apparmor,
        unmask=security.unmask,
    )


def _hook(hook: wire.HookWish) -> HookWish:
    return HookWish(hook.stage, hook.path, tuple(hook.args), tuple(hook.env), hook.timeout_s)
