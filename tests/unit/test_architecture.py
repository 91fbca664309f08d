"""What docs/explanation/architecture.md promises of the source: who imports whom, who raises and does what."""

from __future__ import annotations

import ast
import functools
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from lkm import errors
from lkm.errors import LkmError
from lkm.problems import Problem, ProblemKind

SOURCE = Path(__file__).parents[2] / "src" / "lkm"

GROUPS: dict[str, tuple[str, ...]] = {
    "base": (
        "_version", "arch", "atomic", "closing", "code", "config", "errors", "paths", "pool", "proc",
        "progress", "sandbox",
    ),
    "facts": (
        "end", "ko", "ktap", "leaks", "log", "machine", "params", "problems", "project", "source",
        "symbolize",
    ),
    "kbuild": ("kbuild",),
    "kernels": ("kernels",),
    "vm": ("vm",),
    "host": ("host",),
    "check": ("loadcheck",),
    "signing": ("signing",),
    "run": (
        "at_once", "decoding", "garbage", "openfiles", "prediction", "preflight", "remains", "requests", "rig",
        "run", "sourcefiles", "targets", "twin", "unfreed", "verbs", "verdict",
    ),
    "matrix": ("matrix",),
    "interpose": ("interpose", "faults"),
    "cli": ("cli", "__main__"),
    "api": ("__init__", "api", "ioctl"),
    "pytest_plugin": ("pytest_plugin",),
}  # fmt: skip
"""Each group's modules and packages, by their names below `lkm`."""

MAY_IMPORT: dict[str, set[str]] = {
    "base": {"base"},
    "facts": {"base", "facts"},
    "kbuild": {"base", "facts", "kbuild"},
    "kernels": {"base", "facts", "kernels"},
    "vm": {"base", "facts", "vm"},
    "host": {"base", "facts", "host"},
    "check": {"base", "facts", "kernels", "check"},
    "signing": {"base", "facts", "signing"},
    "run": {"base", "facts", "kbuild", "kernels", "vm", "check", "run"},
    "matrix": {"base", "facts", "kbuild", "kernels", "vm", "run", "matrix"},
    "interpose": {"base", "facts", "kbuild", "kernels", "vm", "run", "interpose"},
    "cli": {
        "base", "facts", "kbuild", "kernels", "vm", "host", "check", "signing", "run", "interpose",
        "matrix", "cli", "api",
    },
    "api": {"base", "facts", "kbuild", "kernels", "vm", "run", "api"},
    "pytest_plugin": {
        "base", "facts", "kbuild", "kernels", "vm", "run", "interpose", "api", "pytest_plugin",
    },
}  # fmt: skip

SHARED = {"kernels.additions", "kernels.kernel", "kernels.modules"}
"""What kbuild, signing and vm may know of kernels: the nouns, the order in which modules are loaded, and how a
source's own packages come to its toolchain."""

BUILTIN_RAISES = {
    ("__init__", "AttributeError"): "what a module's __getattr__ says (PEP 562)",
    ("module", "KeyError"): "what a Mapping says",
    ("calls", "OSError"): "the guest's errno, as a file's operations have it",
    ("ioctl", "ValueError"): "what Python's own functions say of a number out of range",
    ("forks", "BrokenPipeError"): "caught in the same module",
    ("forks", "TimeoutExpired"): "what Popen says, of which it is one for a machine",
    ("file", "UnsupportedOperation"): "what Python's own files say of what they cannot",
    ("file", "ValueError"): "what Python's own files say when they are closed",
    ("process", "BrokenPipeError"): "what Python's own pipes say",
    ("machine", "OSError"): "the guest's errno, as a file's operations have it",
    ("process", "OSError"): "the guest's errno: the program could not be started",
    ("named", "TimeoutError"): "caught in the same function",
    ("qmp", "TimeoutError"): "caught in vm",
    ("settings", "ValueError"): "caught in the same file",
    ("fixtures", "_Skipped"): "what pytest calls a skip",
    ("proc", "KeyboardInterrupt"): "Ctrl-C, for the threads that it does not reach",
    ("hooks", "CollectError"): "what pytest shows without a traceback",
    ("record", "TypeError"): "caught in the same file",
    ("signature", "ValueError"): "caught in the same file",
    ("outcome", "TypeError"): "caught where kept results are read",
    ("lines", "ValueError"): "caught in symbolize.debuginfo",
    ("ranges", "ValueError"): "caught in symbolize.debuginfo",
    ("sections", "ValueError"): "caught in symbolize.debuginfo",
    ("units", "ValueError"): "caught in symbolize.debuginfo",
    ("__init__", "SystemExit"): "the command line's answer to SIGTERM",
}
"""(file, exception): why it may be raised though it is not of lkm's tree."""


def modules() -> dict[str, ast.Module]:
    """Every module by its name below lkm (`vm.qmp`, `kernels.__init__`)."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted(SOURCE.rglob("*.py"))
    }


MODULES = modules()


def group_of(module: str) -> str:
    top = module.partition(".")[0]
    for group, members in GROUPS.items():
        if top in members:
            return group
    raise LookupError(f"no group for {module}: add it to GROUPS")


def at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker sees."""
    if isinstance(node, ast.If) and spelled(node.test) == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from at_run_time(child)


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules of lkm that a module imports at any time, lazily too, by their names below lkm."""
    for node in at_run_time(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "lkm":
                yield _module_in(name.removeprefix("lkm").lstrip("."))


def _module_in(name: str) -> str:
    """The module that `name` is, or that has it."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        candidate = ".".join(parts[:length])
        if candidate in MODULES or f"{candidate}.__init__" in MODULES:
            return candidate
    return "__init__"


def test_every_module_belongs_to_a_group() -> None:
    assert {group_of(module) for module in MODULES} >= set(GROUPS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    group = group_of(module)
    wrong = {
        target
        for target in imported(MODULES[module])
        if group_of(target) not in MAY_IMPORT[group]
        and not (group in ("kbuild", "signing", "vm") and target in SHARED)
    }
    assert not wrong, f"{module} ({group}) imports {sorted(wrong)}"


FORBIDDEN = {
    "print", "input", "exit", "quit", "breakpoint", "sys.exit", "os._exit", "os.abort",
    "sys.stdin", "sys.stdout", "sys.stderr",
    "signal.signal", "signal.set_wakeup_fd", "signal.setitimer", "signal.alarm",
    "os.chdir", "os.fchdir", "contextlib.chdir", "os.chroot", "os.umask",
    "logging.basicConfig", "warnings.simplefilter", "atexit.register",
}  # fmt: skip


def spelled(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{spelled(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("module", [name for name in MODULES if group_of(name) != "cli"])
def test_nothing_below_the_cli_touches_what_is_the_callers(module: str) -> None:
    tree = MODULES[module]
    found = {spelled(node) for node in ast.walk(tree)} & FORBIDDEN
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & FORBIDDEN
    assert not found


HEAVY = {
    "asyncio",
    "distributed",
    "elftools",
    "filelock",
    "lzma",
    "platformdirs",
    "rich",
    "shtab",
    "zstandard",
}


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_where_they_are_needed(module: str) -> None:
    tops = [node for node in MODULES[module].body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.split(".")[0]
        for node in tops
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }
    assert not names & HEAVY


PUBLIC: dict[str, type[LkmError]] = {
    name: member
    for name, member in vars(errors).items()
    if name in errors.__all__ and isinstance(member, type) and issubclass(member, errors.LkmError)
}


@functools.cache
def classes() -> set[str]:
    """The names of all classes that lkm defines."""
    return {
        node.name
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


@functools.cache
def makers() -> set[str]:
    """The functions whose annotation says that they return an error of the tree."""
    return {
        node.name
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.returns is not None
        and {part.strip() for part in ast.unparse(node.returns).split("|")} <= PUBLIC.keys()
    }


def raised(tree: ast.Module) -> Iterator[str]:
    """The last names of what is raised; re-raised variables are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            is_choice = isinstance(node.exc, ast.IfExp)
            for value in ast.iter_child_nodes(node.exc) if is_choice else [node.exc]:
                if isinstance(value, ast.Call):
                    yield spelled(value.func).rpartition(".")[2]
                elif isinstance(value, ast.Name) and not value.id.islower():
                    yield value.id


@pytest.mark.parametrize("module", MODULES)
def test_what_is_raised_is_of_the_tree_or_private(module: str) -> None:
    known = PUBLIC.keys() | classes() | makers()
    stem = module.rpartition(".")[2]
    wrong = {
        n for n in raised(MODULES[module]) if n not in known and (stem, n) not in BUILTIN_RAISES
    }
    assert not wrong


def test_exceptions_outside_the_tree_are_not_public() -> None:
    exceptions = {
        node.name
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and module != "errors"
        and any(spelled(base).endswith(("Exception", "Error")) for base in node.bases)
    }
    api = MODULES.get("__init__")
    exported = set(ast.literal_eval(_all_of(api))) if api and _all_of(api) else set()
    assert not exceptions & exported


def _all_of(tree: ast.Module) -> ast.expr:
    for node in tree.body:
        if isinstance(node, ast.Assign) and spelled(node.targets[0]) == "__all__":
            return node.value
    return ast.Tuple([], ast.Load())


PROBLEM = Problem(
    kind=ProblemKind.OOPS, summary="BUG: it", function="f", module="m", file=None, line=None, offset=1,
    size=2, address=None, process=None, taint="", trace=(), records=(0, 1),
)  # fmt: skip

SAMPLES: tuple[LkmError, ...] = (
    errors.LkmError("what", evidence=["line"], hint="type this"),
    errors.UsageError("what"),
    errors.StateError("the machine", state="closed", required="running"),
    errors.ExcludedError("m-1.0", "6.1.0", "BUILD_EXCLUSIVE_KERNEL_MIN=6.2: 6.1.0 is older"),
    errors.HostError("what", hint="sudo apt-get install it"),
    errors.BuildError(
        "what", argv=["make"], returncode=2, diagnostics=["a.c:1: error"], log_path=Path("/l")
    ),
    errors.MachineError("what", stage="boot", console_tail="a\nb", run_dir=Path("/r")),
    errors.ModuleFailure("what"),
    errors.LoadError("m.ko", 8, log=["m: no"], hint="h"),
    errors.UnloadError("m", 16),
    errors.KernelProblem(PROBLEM, log=["a"]),
    errors.CommandError(["ls", "/x"], 1, stderr=b"no such file\n"),
)


def test_there_is_a_sample_of_every_public_error() -> None:
    assert {type(error).__name__ for error in SAMPLES} == PUBLIC.keys()


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_a_public_error_survives_pickling_whole(error: LkmError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_a_public_errors_attributes_are_documented(error: LkmError) -> None:
    page = (SOURCE.parents[1] / "docs" / "reference" / "exit-codes.md").read_text()
    (row,) = (
        line for line in page.splitlines() if line.startswith(f"| `{type(error).__name__}` |")
    )
    _, _, _, _, attributes, _ = row.split("|")
    own = (
        vars(error).keys() - vars(SAMPLES[0]).keys() if type(error) is not LkmError else vars(error)
    )
    assert set(attributes.replace("`", "").replace(",", " ").split()) == set(own)
