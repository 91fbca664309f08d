"""A source's own pytest suite, run on one kernel, and what its JUnit file says."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from lkm import proc
from lkm.errors import HostError, MachineError, UsageError

__all__ = ["counted", "run"]

LIMIT = 3600.0
"""Seconds that a suite may take on one kernel."""
_NO_TESTS, _USAGE = 5, 4
_SHOWN = 20


def run(path: Path, kernel: str) -> dict[str, Any]:
    """The counts of the suite beside a source: `tests`, `failed`, `skipped`, `seconds`, and its `failures`.

    Raises HostError or MachineError where a test met one, or where pytest itself did not work.
    """
    directory = path if path.is_dir() else path.parent
    if not any(directory.rglob("test_*.py")) and not any(directory.rglob("*_test.py")):
        return {"tests": 0, "failed": 0, "skipped": 0, "seconds": 0.0, "failures": []}
    with tempfile.TemporaryDirectory(prefix="lkm-tests-") as made:
        report = Path(made) / "junit.xml"
        words = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report}", f"--lkm-kernel={kernel}"]
        done = proc.run(
            [sys.executable, "-m", "pytest", *words, str(directory)],
            stage=f"the tests of {path.name} on {kernel}",
            timeout=LIMIT,
            cwd=directory,
        )
        if not report.is_file():
            raise _no_report(done)
        return counted(report.read_bytes())


def _no_report(done: proc.Finished) -> HostError | UsageError:
    evidence = done.output.splitlines()[-8:]
    if "No module named pytest" in done.output:
        return HostError("pytest is not installed", hint="pip install 'lkm[pytest]'")
    summary = f"pytest ended with {done.returncode} before it ran a test"
    return UsageError(summary, evidence=evidence, hint=" ".join(done.argv[1:]))


def counted(report: bytes) -> dict[str, Any]:
    """What a JUnit file of pytest's says, in numbers.

    Raises MachineError where a test met broken infrastructure.
    """
    suites = list(ET.fromstring(report).iter("testsuite"))
    failures = [
        found for suite in suites for case in suite.iter("testcase") for found in _failures(case)
    ]
    for failure in failures:
        if re.search(r"\b(HostError|MachineError)\b", failure["message"]):
            raise MachineError(f"{failure['test']}: {failure['message']}", stage="test")

    def total(name: str) -> int:
        return sum(int(suite.get(name, "0")) for suite in suites)

    return {
        "tests": total("tests"),
        "failed": len(failures),
        "skipped": total("skipped"),
        "seconds": round(sum(float(suite.get("time", "0")) for suite in suites), 3),
        "failures": failures[:_SHOWN],
    }


def _failures(case: ET.Element) -> list[dict[str, str]]:
    """The failure of a test case, and the error of its setup or teardown, as test, message, and text."""
    found = [*case.findall("failure"), *case.findall("error")]
    return [
        {
            "test": case.get("name", ""),
            "message": each.get("message", "").split("\n")[0][:400],
            "text": (each.text or "")[-4000:],
        }
        for each in found[:1]
    ]
