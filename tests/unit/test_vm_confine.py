"""What QEMU is shown of this computer."""

from __future__ import annotations

from pathlib import Path

from lkm.vm import confine


def test_only_what_is_named_is_shown_and_only_what_is_said_is_written() -> None:
    line = confine.argv(
        ["/usr/bin/qemu", "-S"],
        read=[Path("/k/image")],
        written=[Path("/c/ram")],
        devices=[Path("/dev/kvm")],
    )
    assert line[:2] == ["bwrap", "--unshare-all"]
    assert line[-3:] == ["--", "/usr/bin/qemu", "-S"]
    assert "--share-net" not in line
    shown = {line[i + 1] for i, word in enumerate(line) if word == "--ro-bind"}
    assert "/k/image" in shown
    assert not {"/", "/home", "/root", "/etc", "/var", "/tmp", "/run"} & shown
    assert [line[i + 1] for i, word in enumerate(line) if word == "--bind"] == ["/c/ram"]
    assert [line[i + 1] for i, word in enumerate(line) if word == "--dev-bind"] == ["/dev/kvm"]
