"""What a test asks for and gets: kernels, markers, configuration, sources, options; and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.vm

Written = Callable[..., Path]

RELEASE = "def test_it(vm, kernel): print('runs', vm.run(['uname', '-r']).text.strip())"
"""A user's test that prints which kernel it runs on."""


def test_each_test_runs_on_each_kernel_of_the_option(
    pytester: pytest.Pytester, written: Written
) -> None:
    written(RELEASE + "\ndef test_other(): pass")
    result = pytester.runpytest_inprocess("-v", "-s", "--lkm-kernel", "6.1,6.12")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        ["*::test_it[[]6.1] *runs 6.1.*", "*::test_it[[]6.12] *runs 6.12.*"]
    )
    result.stdout.fnmatch_lines(["*::test_other PASSED*"])


@pytest.mark.parametrize(
    ("option", "marker", "toml", "ini", "expected"),
    [
        ("6.12", "6.1", "5.10", "7.3", "6.12"),
        (None, "6.1", "5.10", "7.3", "6.1"),
        (None, None, "5.10", "7.3", "5.10"),
        (None, None, None, "7.3", "7.3"),
        (None, None, None, None, None),
    ],
)
def test_the_nearest_place_names_the_kernel(
    pytester: pytest.Pytester,
    written: Written,
    option: str | None,
    marker: str | None,
    toml: str | None,
    ini: str | None,
    expected: str | None,
) -> None:
    mark = f"@pytest.mark.lkm(kernel={marker!r})\n" if marker else ""
    written(f"{mark}def test_it(kernel): pass")
    if toml:
        pytester.makefile(".toml", lkm=f'[pytest]\nkernel = "{toml}"')
    pytester.makeini(f"[pytest]\nlkm_kernel = {ini}" if ini else "[pytest]")
    words = ["--lkm-kernel", option] if option else []
    result = pytester.runpytest_inprocess("--collect-only", "-q", *words)
    result.stdout.fnmatch_lines(
        [f"test_it.py::test_it[[]{expected}]" if expected else "*::test_it"]
    )


def test_configuration_and_marker_say_what_a_machine_has(
    pytester: pytest.Pytester, written: Written
) -> None:
    written("""
@pytest.mark.lkm(memory="192M", timeout=7)
def test_marked(vm):
    assert vm.timeout == 7
    assert int(vm.path("/proc/meminfo").read_text().split()[1]) > 130_000
def test_configured(vm):
    assert vm.timeout == 11
""")
    pytester.makeini("[pytest]\nlkm_timeout = 11")
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_marker_asks_for_programs_of_debian(pytester: pytest.Pytester, written: Written) -> None:
    written("""
@pytest.mark.lkm(packages=["jool-tools"])
def test_marked(vm):
    assert vm.run(["jool", "--version"]).check().text
def test_plain(vm):
    assert vm.run(["which", "jool"]).returncode
""")
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_modules_of_the_kernel_are_loaded_before_the_test(
    pytester: pytest.Pytester, written: Written
) -> None:
    written("""
@pytest.mark.lkm(modules=["dummy"])
@pytest.mark.parametrize("again", [1, 2])
def test_it(vm, again):
    assert "dummy" in [module.name for module in vm.modules()]
    vm.rmmod("dummy")
""")
    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_factory_makes_more_machines_which_are_judged_too(
    pytester: pytest.Pytester, written: Written
) -> None:
    written("""
def test_two(vm, vm_factory):
    other = vm_factory(timeout=9)
    other.path("/tmp/x").write_text("here")
    assert other.timeout == 9 and not vm.path("/tmp/x").exists()
def test_problem(vm_factory):
    with pytest.raises(lkm.KernelProblem): vm_factory().insmod(MODULES / "warn.c")
def test_option(vm_factory):
    vm_factory(memry=3)
""")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*unknown key 'memry'; did you mean 'memory'?*"])


def test_the_source_beside_the_test_is_built_once(
    pytester: pytest.Pytester, written: Written
) -> None:
    written("""
def test_above(build, insmod, request):
    assert build() is build()
    assert build().path == request.path.parent.parent
    assert insmod("hi").log.of("hi").text == "hi: init"
def test_name(insmod):
    insmod("hj")
def test_path(build):
    assert list(build("../hello.c")) == ["hello"]
""")  # fmt: skip
    source = (Path(__file__).parents[2] / "examples/hello/hello.c").read_text()
    pytester.makefile(".c", hello=source, hi=source)
    pytester.makefile("", Kbuild="obj-m := hi.o")
    (pytester.path / "tests").mkdir()
    (pytester.path / "test_it.py").rename(pytester.path / "tests" / "test_it.py")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*has no module 'hj'", "*it has hi", '*hint: insmod("hi")'])


def test_a_test_without_a_module_source_says_where_it_was_looked_for(
    pytester: pytest.Pytester, written: Written
) -> None:
    written("def test_it(insmod): insmod()")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*UsageError: no module source at or above {pytester.path}: no Kbuild or Makefile with obj-m*",
            f"*looked up to {pytester.path}",
            "*hint: echo 'obj-m := NAME.o' > *",
        ]
    )


REFUSED = {
    "kernels='6.1'": "unknown key 'kernels'; did you mean 'kernel'?",
    "memory='much'": "memory is 'much'",
    "timeout=0": "timeout is 0",
    "settle=-1": "settle is -1",
    "expect='ops'": "expect is 'ops'",
    "packages=7": "packages is 7",
    "'6.1'": "takes keywords, not '6.1'",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_marker_that_makes_no_sense_is_an_error_of_collection(
    pytester: pytest.Pytester, written: Written, arguments: str
) -> None:
    written(f"@pytest.mark.lkm({arguments})\ndef test_it(): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*@pytest.mark.lkm of test_it*{REFUSED[arguments]}", "hint: *"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_key_that_lkm_toml_does_not_have_is_an_error_of_collection(
    pytester: pytest.Pytester, written: Written
) -> None:
    written("def test_it(kernel): pass")
    pytester.makefile(".toml", lkm='[pytest]\nkernels = "6.1"')
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*lkm.toml: unknown key 'kernels'; did you mean 'kernel'?", "hint: the keys are kernel, *"]
    )


def test_a_kernel_that_cannot_be_fetched_is_an_error(
    pytester: pytest.Pytester, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(pytester.path / "store"))
    monkeypatch.setenv("LKM_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    pytester.makepyfile(test_it="def test_it(vm): pass\ndef test_without(): pass")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["ERROR test_it.py::test_it - lkm.errors.HostError: *"])


def test_a_computer_without_qemu_fails_only_the_tests_that_need_it(
    pytester: pytest.Pytester, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    written("def test_it(vm): pass\ndef test_without(): pass")
    monkeypatch.setenv("PATH", str(pytester.path))
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["ERROR test_it.py::test_it - lkm.errors.HostError: *qemu*"])


def test_a_project_without_such_tests_does_not_import_what_is_slow(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_it="def test_it(): pass")
    pytester.makeconftest("""
import sys
def pytest_sessionfinish():
    for name in ("lkm.api.vm", "lkm.vm.qemu", "lkm.kernels", "lkm.kbuild", "lkm.problems", "lkm.ko"):
        assert name not in sys.modules
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q"], check=False, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
