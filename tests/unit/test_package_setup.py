"""Set-up installs packages without a daemon being started or enabled, and leaves others' services alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.lab import packages, setup


def _root(directory: Path) -> Path:
    (directory / "usr/sbin").mkdir(parents=True)
    (directory / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    (directory / "etc/rc3.d").mkdir()
    return directory


def test_policy_denies_starts_while_installing_and_is_gone_afterwards(tmp_path: Path) -> None:
    """While packages are installed every start is denied (101); afterwards there is no policy, as before."""
    root = _root(tmp_path)
    policy = root / "usr/sbin/policy-rc.d"
    with packages.denied_daemons(root):
        assert subprocess.run([policy, "docker-registry", "start"], check=False).returncode == 101
    assert list(policy.parent.iterdir()) == []


def test_policy_that_was_there_is_restored_when_installing_fails(tmp_path: Path) -> None:
    """The machine's own policy comes back, mode and all, also when the installation fails."""
    policy = _root(tmp_path) / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    policy.chmod(0o750)
    with pytest.raises(packages.InstallFailed), packages.denied_daemons(tmp_path):
        raise packages.InstallFailed("no network")
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in policy.parent.iterdir()] == ["policy-rc.d"]


def test_policy_left_by_a_killed_setup_is_cleared_by_the_next(tmp_path: Path) -> None:
    """A set-up that was killed while installing leaves its policy; the next one restores what was there before it."""
    policy = _root(tmp_path) / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    killed = packages.denied_daemons(tmp_path)
    killed.__enter__()
    with packages.denied_daemons(tmp_path):
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert [path.name for path in policy.parent.iterdir()] == ["policy-rc.d"]


def test_only_services_that_came_with_the_installation_are_disabled(tmp_path: Path) -> None:
    """A service that was enabled before stays enabled; one that the installation enabled is not, in either init system."""
    root = _root(tmp_path)
    wants, runlevel = root / "etc/systemd/system/multi-user.target.wants", root / "etc/rc3.d"
    (wants / "mine.service").symlink_to("/lib/systemd/system/mine.service")
    (runlevel / "S01mine").symlink_to("../init.d/mine")
    before = packages.boot_links(root)
    (wants / "docker-registry.service").symlink_to("/lib/systemd/system/docker-registry.service")
    (runlevel / "S01docker-registry").symlink_to("../init.d/docker-registry")
    packages.disable(root, packages.boot_links(root) - before)
    assert packages.boot_links(root) == before == {wants / "mine.service", runlevel / "S01mine"}


def test_missing_packages_are_told_from_installed_ones() -> None:
    """What is not installed, or unknown to Debian, is missing; what is essential is not."""
    assert packages.missing(["dpkg", "no-such-package-anywhere", "coreutils"]) == ["no-such-package-anywhere"]


def test_second_setup_installs_nothing_and_is_quick() -> None:
    """With everything there, set-up changes nothing, says nothing and takes less than two seconds."""
    script = setup.ROOT / "scripts/setup"
    command = [str(script), "test"]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=2.0)
    assert (done.stdout, done.stderr) == ("", "")
