"""What pytest calls."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from typing import Any

import pytest

from lkm.errors import KernelProblem, LkmError, LoadError, UnloadError
from lkm.pytest_plugin.fixtures import (
    build,
    insmod,
    kernel,
    lkm_kernel_name,
    lkm_session,
    lkm_trial,
    vm,
    vm_factory,
)
from lkm.pytest_plugin.report import INFRASTRUCTURE, LOAD, MODULE, TEST, judged, tell
from lkm.pytest_plugin.settings import IN_FILES, MARKER, settings_of
from lkm.pytest_plugin.tracebacks import (
    has_users_frames,
    is_in_ours,
    is_infrastructure,
    told,
    without_ours,
)
from lkm.pytest_plugin.trial import NEXT, TRIAL, Trial

__all__ = [
    "build",
    "insmod",
    "kernel",
    "lkm_kernel_name",
    "lkm_session",
    "lkm_trial",
    "vm",
    "vm_factory",
]

_BLAME = pytest.StashKey[dict[str, str]]()
_CURRENT = pytest.StashKey[pytest.Item]()
_HELP = {
    "kernel": "the kernels that tests run on, as 5.10,6.1",
    "timeout": "seconds for each thing that a machine is asked",
    "memory": 'memory of a machine, in MiB or as "256M"',
    "packages": "Debian packages in a machine's file system",
    "settle": "seconds of the guest's time that it is watched for after the last unload",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option --lkm-kernel, and the keys of pytest's configuration."""
    group = parser.getgroup("lkm", "Linux kernel modules")
    group.addoption(
        "--lkm-kernel",
        metavar="K,...",
        help="run each test that uses a kernel on each of these: 6.1, a full release, tree:PATH",
    )
    group.addoption("--lkm-faults", metavar="FILE", help=argparse.SUPPRESS)
    for key in IN_FILES:
        parser.addini(f"lkm_{key}", _HELP[key], default="")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """The marker, and JUnit's sections."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(kernel=, packages=, memory=, modules=, timeout=, settle=, expect=): the machine that"
        " a test has, and the problem that the kernel has to report in it",
    )
    if job := config.getoption("lkm_faults"):
        from lkm.pytest_plugin import faults

        faults.begin(config, job)
    if config.getoption("xmlpath", None) and not hasattr(config, "workerinput"):
        from _pytest.junitxml import xml_key

        from lkm.pytest_plugin.junit import Sections

        if xml := config.stash.get(xml_key, None):
            config.pluginmanager.register(Sections(xml), "lkm-junit")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each kernel; a marker that makes no sense is an error here."""
    item: Any = metafunc.definition
    uses_kernel = "_lkm_kernel" in metafunc.fixturenames
    if not uses_kernel and not any(item.iter_markers(MARKER)):
        return
    try:
        names = settings_of(item).kernel
    except LkmError as error:
        raise pytest.Collector.CollectError(str(error)) from error
    if uses_kernel and names:
        metafunc.parametrize("_lkm_kernel", names, indirect=True, scope="session")


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test that has a machine; its reports are sent when its kernel has been judged."""
    if "_lkm_trial" not in getattr(item, "fixturenames", ()):
        return None
    from _pytest.runner import runtestprotocol

    item.config.stash[_CURRENT] = item
    item.stash[NEXT] = nextitem
    blame: dict[str, str] = {}
    item.stash[_BLAME] = blame
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = judged(runtestprotocol(item, log=False, nextitem=nextitem), blame)
    if trial := item.stash.get(TRIAL, None):
        tell(item, trial, reports, blame)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A test whose kernel reported what it expects has not failed."""
    try:
        yield
    except LkmError as error:
        trial = item.stash.get(TRIAL, None)
        if trial is None or not trial.wants(error):
            raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the user's frames only, and keep whose fault it was."""
    blame = item.stash.get(_BLAME, None)
    if blame is None or call.excinfo is None:
        return (yield)
    error = told(call.excinfo.value)
    if error is None:
        blame[call.when] = TEST
        value = call.excinfo.value
        if is_in_ours(value) and not item.config.getoption("fulltrace"):
            call.excinfo = pytest.ExceptionInfo.from_exception(without_ours(value))
        return (yield)
    trial = item.stash.get(TRIAL, None)
    if isinstance(error, KernelProblem) and trial and trial.has_said(error.log):
        # The report has the log in a section of its own.
        error.evidence = error.traced
    if not item.config.getoption("fulltrace"):
        call.excinfo = pytest.ExceptionInfo.from_exception(without_ours(error))
    report = yield
    _blame(report, error, blame)
    if report.longrepr and not has_users_frames(error):
        report.longrepr = call.excinfo.getrepr(style="value")
    return report


def _blame(report: pytest.TestReport, error: LkmError, blame: dict[str, str]) -> None:
    refused = report.when == "call" and isinstance(error, LoadError | UnloadError)
    blame[report.when] = LOAD if refused else MODULE
    if is_infrastructure(error):
        blame[report.when] = INFRASTRUCTURE
    if is_infrastructure(error) and hasattr(report, "wasxfail"):
        del report.wasxfail
        report.outcome = "failed"


def pytest_enter_pdb(config: pytest.Config) -> None:
    """Have the test's machines entered from another shell."""
    if trial := _current(config):
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        trial.twins.start(trial.machines, reporter.write_line)


def pytest_leave_pdb(config: pytest.Config) -> None:
    """Take down what was put up for it."""
    if trial := _current(config):
        trial.twins.close()


def _current(config: pytest.Config) -> Trial | None:
    item = config.stash.get(_CURRENT, None)
    return item.stash.get(TRIAL, None) if item else None
