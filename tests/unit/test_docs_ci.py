"""The CI files that the documentation offers: what the page shows, what the services take, what lkm takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lkm.cli import parse

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
FILES = {"github-actions.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_whole_file(name: str) -> None:
    shown = re.findall(r"^```yaml\n(.*?)^```", (HOW_TO / "ci.md").read_text(), re.M | re.S)
    assert (HOW_TO / "ci" / name).read_text() in shown


@pytest.mark.parametrize("name", FILES)
def test_the_schema_of_the_service_takes_the_file(name: str, tmp_path: Path) -> None:
    def checked(path: Path) -> int:
        line = [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            FILES[name],
            str(path),
        ]
        return subprocess.run(line, capture_output=True, timeout=60, check=False).returncode

    broken = tmp_path / name
    text = (HOW_TO / "ci" / name).read_text()
    broken.write_text(
        text.replace("\n    steps:", "\n    stops:").replace(
            "  retry:\n    max: 1", "  retry:\n    max: x"
        )
    )
    assert (checked(HOW_TO / "ci" / name), checked(broken)) == (0, 1)


@pytest.mark.parametrize("name", FILES)
def test_lkm_takes_the_commands_in_the_file(name: str) -> None:
    lines = re.findall(r"/\.venv/bin/lkm ([^;\n]+)", (HOW_TO / "ci" / name).read_text())
    assert {line.split()[0] for line in lines} == {"matrix", "kernel"}
    for line in lines:
        verb, *words = shlex.split(line)
        parse(verb, words)
