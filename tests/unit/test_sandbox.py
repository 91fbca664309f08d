"""What a computer is told on which bubblewrap cannot make a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lkm import proc, sandbox
from lkm.errors import HostError


@pytest.mark.parametrize(
    ("uid", "mark", "remedy"),
    [
        (0, None, "--privileged"),
        (1000, "/.dockerenv", "--privileged"),
        (1000, "/run/.containerenv", "--privileged"),
        (1000, None, "sudo sysctl"),
    ],
)
def test_the_remedy_for_no_sandbox_is_one_for_this_computer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, mark: str | None, remedy: str
) -> None:
    said = "bwrap: No permissions to create a new namespace"
    refused = proc.Finished(("bwrap",), 1, said, 0.0)
    monkeypatch.setattr(proc, "run", lambda *_, **__: refused)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os.path, "exists", lambda path: path == mark)
    with pytest.raises(HostError) as caught:
        sandbox.check_usable(tmp_path)
    assert caught.value.evidence == (said,)
    assert remedy in (caught.value.hint or "")
