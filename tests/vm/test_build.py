"""Real Kbuild, in the sandbox, for the default kernel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from lkm import kbuild as build
from lkm import source
from lkm.errors import BuildError, HostError, LkmError, UsageError
from lkm.kbuild.limits import Limits
from lkm.kernels import Kernel, store

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
TEMPLATE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/init.h>
#include <linux/module.h>
{top}
static int __init {name}_init(void)
{{
	{body}
	return 0;
}}
static void __exit {name}_exit(void)
{{
}}
module_init({name}_init);
module_exit({name}_exit);
MODULE_DESCRIPTION("{name}");
MODULE_LICENSE("GPL");
"""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return store.get()


@pytest.fixture(autouse=True)
def _own_cache(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))


def c(name: str, body: str = "", top: str = "") -> str:
    return TEMPLATE.format(name=name, body=body, top=top)


def module(directory: Path, files: dict[str, str]) -> source.ModuleSource:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return source.find(directory)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    ("example", "module_name"),
    [("hello", "hello"), ("mulfile", "mymodule"), ("getargs", "getargs"), ("params", "params")],
)
def test_the_examples_build_without_a_warning(
    kernel: Kernel, tmp_path: Path, example: str, module_name: str
) -> None:
    ignored = shutil.ignore_patterns("build")  # an earlier `lkm build` of the checkout
    shutil.copytree(ROOT / "examples" / example, tmp_path / example, ignore=ignored)
    before = names(tmp_path / example)
    src = source.find(tmp_path / example)
    done = build.build(src, kernel)
    assert done.diagnostics == ()
    (built,) = done.objects.values()
    assert built.name == built.kernel_object.name == module_name
    assert built.kernel_object.release == kernel.release
    assert built.stripped.stat().st_size < built.path.stat().st_size / 4
    assert build.build(src, kernel).cached
    build.clean(src)
    assert names(tmp_path / example) == before


def test_warnings_and_errors_name_the_user_s_files_and_the_source_is_not_written_to(
    kernel: Kernel, tmp_path: Path
) -> None:
    src = module(
        tmp_path / "m",
        {
            "Kbuild": "obj-m := m.o\nm-y := a.o b.o\nccflags-y := -I$(src)/inc\n",
            "a.c": c("m", "int unused;", '#include "h.h"'),
            "b.c": '#include "h.h"\nint b(void);\nint b(void) { return missing; }\n',
            "inc/h.h": "#define H 1\n",
        },
    )
    with pytest.raises(BuildError) as caught:
        build.build(src, kernel)
    text = str(caught.value)
    assert text.count(f"{src.directory}/b.c:3:") >= 1
    assert text.count("'missing' undeclared") == 1
    assert names(src.directory) == ["Kbuild", "a.c", "b.c", "inc"]
    (src.directory / "b.c").write_text("int b(void);\nint b(void) { return 0; }\n")
    done = build.build(src, kernel)
    (warning,) = done.diagnostics  # of a.c, which compiled the first time already
    assert (warning.file, warning.severity) == (f"{src.directory}/a.c", "warning")
    assert "unused variable" in warning.text


def test_compile_commands_open_in_an_editor(kernel: Kernel, tmp_path: Path) -> None:
    src = module(tmp_path / "m", {"Kbuild": "obj-m := m.o\n", "m.c": c("m")})
    target = build.build(src, kernel).objects["m"].path.parent
    (entry,) = json.loads((target / "compile_commands.json").read_text())
    assert entry["file"] == str(src.directory / "m.c")
    assert Path(entry["directory"]).is_dir()
    includes = [word[2:] for word in entry["arguments"] if word.startswith("-I")]
    found = [path for path in includes if (Path(entry["directory"]) / path).is_dir()]
    assert len(found) >= 4
    forced = [
        entry["arguments"][i + 1] for i, word in enumerate(entry["arguments"]) if word == "-include"
    ]
    assert forced
    assert all(Path(entry["directory"], path).is_file() for path in forced)


def test_all_modules_of_a_source_are_built_with_their_dependencies(
    kernel: Kernel, tmp_path: Path
) -> None:
    provider = "int provided(void);\nint provided(void) { return 1; }\nEXPORT_SYMBOL_GPL(provided);"
    src = module(
        tmp_path / "m",
        {
            "Kbuild": "obj-m := core-part.o sub/\n",
            "core-part.c": c("core", top=provider),
            "sub/Kbuild": "obj-m := user.o\n",
            "sub/user.c": c("user", "return provided() - 1;", "int provided(void);"),
        },
    )
    done = build.build(src, kernel)
    assert sorted(done.objects) == ["core_part", "user"]
    assert done.objects["user"].kernel_object.first("depends") in ("core-part", "core_part")
    assert "provided" in (done.log_path.parent / "Module.symvers").read_text()


def test_a_single_file_builds_as_a_module_of_its_name(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "lone.h").write_text("#define LONE 1\n")
    (tmp_path / "lone.c").write_text(c("lone", top='#include "lone.h"'))
    done = build.build(source.find(tmp_path / "lone.c"), kernel)
    assert done.objects["lone"].path == tmp_path / "build" / kernel.release / "lone.ko"


def test_an_unresolved_symbol_is_an_error_whatever_the_makefile_says(
    kernel: Kernel, tmp_path: Path
) -> None:
    src = module(
        tmp_path / "m",
        {
            "Makefile": "export KBUILD_MODPOST_WARN := 1\nobj-m := m.o\n",
            "m.c": c("m", "return nobody_has_this();", "int nobody_has_this(void);"),
        },
    )
    with pytest.raises(BuildError, match=r"modpost: .*nobody_has_this.* undefined!") as caught:
        build.build(src, kernel)
    assert "grep -w nobody_has_this" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("makefile", "expected"),
    [
        ("obj-m := m.o\nthis is no make\n", r"Makefile:2: \*\*\* missing separator"),
        ("obj-m := m.o\n$(error no way)\n", r"Makefile:2: \*\*\* no way"),
        ("obj-m := absent.o\n", "No rule to make target .*absent.o"),
        ("obj-m := m.o\nccflags-y := -fno-such-flag\n", "unrecognized command-line option"),
        ("obj-m := m.o\n$(obj)/m.o: gone\ngone:\n\tfalse\n", "make ended with 2"),
    ],
)
def test_a_makefile_that_fails_is_shown(
    kernel: Kernel, tmp_path: Path, makefile: str, expected: str
) -> None:
    with pytest.raises(BuildError, match=expected):
        build.build(module(tmp_path / "m", {"Makefile": makefile, "m.c": c("m")}), kernel)


def test_a_makefile_without_a_module_is_bad_input(kernel: Kernel, tmp_path: Path) -> None:
    src = module(tmp_path / "m", {"Makefile": "all:\n\ttrue\n", "m.c": c("m")})
    with pytest.raises(UsageError, match="no module in") as caught:
        build.build(src, kernel)
    assert "obj-m := m.o" in str(caught.value.hint)
    assert names(src.directory) == ["Makefile", "m.c"]


def test_a_makefile_sees_no_network_and_writes_nowhere(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("safe")
    makefile = (
        "obj-m := m.o\n"
        f"X := $(shell echo owned > {tmp_path}/outside; echo owned > /usr/owned; "
        "echo owned > $(src)/owned; rm -f $(src)/m.h; "
        "echo interfaces: $$(tail -n +3 /proc/net/dev | cut -d: -f1) >&2)\n"
    )
    src = module(tmp_path / "m", {"Makefile": makefile, "m.c": c("m"), "m.h": ""})
    done = build.build(src, kernel)
    assert (tmp_path / "outside").read_text() == "safe"
    assert names(src.directory) == ["Makefile", "build", "m.c", "m.h"]
    assert any(line.split() == ["interfaces:", "lo"] for line in done.output)


@pytest.mark.parametrize("name", ["with space", "a:b", "größe", "plus+comma,x", "do$$lar", "hash#"])
def test_any_directory_name_builds_and_is_named_in_diagnostics(
    kernel: Kernel, tmp_path: Path, name: str
) -> None:
    src = module(tmp_path / name, {"Kbuild": "obj-m := m.o\n", "m.c": c("m", "int unused;")})
    done = build.build(src, kernel)
    (warning,) = done.diagnostics
    assert warning.file == str(src.directory / "m.c")
    assert str(src.directory / "m.c") in warning.lines[0]
    (entry,) = json.loads((done.log_path.parent / "compile_commands.json").read_text())
    assert entry["file"] == str(src.directory / "m.c")


def test_a_source_below_a_directory_of_the_toolchain_root_builds(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lkm.kbuild import make as kbuild

    src = module(tmp_path / "m", {"Kbuild": "obj-m := m.o\n", "m.c": c("m", "int unused;")})
    monkeypatch.setattr(kbuild, "_FREE", set())
    (first,) = tmp_path.parts[1:2]
    if not (kernel.toolchain.root / first).exists():
        pytest.skip(f"the toolchain root has no /{first}")
    done = build.build(src, kernel)
    assert done.compiled_at == "/lkm/source"
    assert done.diagnostics[0].file == str(src.directory / "m.c")


def test_a_header_of_the_enclosing_git_work_tree_is_found(kernel: Kernel, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / ".git").mkdir(parents=True)
    (repo / "inc").mkdir()
    (repo / "inc/shared.h").write_text("#define SHARED 0\n")
    src = module(
        repo / "m",
        {
            "Kbuild": "obj-m := m.o\nccflags-y := -I$(src)/../inc\n",
            "m.c": c("m", "return SHARED;", "#include <shared.h>"),
        },
    )
    build.build(src, kernel)
    assert build.build(src, kernel).cached
    (repo / "inc/shared.h").write_text("#define SHARED 1000\n")
    assert not build.build(src, kernel).cached


def test_output_that_is_not_utf8_is_shown(kernel: Kernel, tmp_path: Path) -> None:
    src = module(tmp_path / "m", {"Kbuild": "obj-m := m.o\n"})
    (src.directory / "m.c").write_bytes(
        c("m", "int unused; /* X */").encode().replace(b"X", b"\xff\xfe")
    )
    (warning,) = build.build(src, kernel).diagnostics
    assert "\ufffd" in "\n".join(warning.lines)


def test_an_object_that_the_author_ships_is_linked(kernel: Kernel, tmp_path: Path) -> None:
    src = module(
        tmp_path / "m",
        {
            "Kbuild": "obj-m := m.o\nm-y := main.o blob.o\n",
            "main.c": c("m", "return blob();", "int blob(void);"),
            "blob.c": "int blob(void);\nint blob(void) { return 0; }\n",
        },
    )
    build.build(src, kernel)
    tree = next((tmp_path / "cache/work").glob("*/*/tree"))
    shutil.copy(tree / "blob.o", src.directory / "blob.o")
    (src.directory / ".blob.o.cmd").touch()  # modpost wants one of every object
    (src.directory / "blob.c").unlink()
    build.clean(src)
    assert list(build.build(src, kernel).objects) == ["m"]


@pytest.mark.parametrize(
    ("recipe", "bounds", "reason"),
    [
        ("while :; do :; done", Limits(seconds=2), "ran longer than 2 s"),
        ("sleep 1000 & sleep 1000", Limits(seconds=2), "ran longer than 2 s"),
        ("while :; do sleep 60 & sleep 0.002; done", Limits(processes=150), "started more than 150 processes"),
        (
            "i=0; while :; do i=$$((i+1)); head -c 8M /dev/zero > junk$$i; done",
            Limits(disk=64 << 20),
            "wrote more than 64 MiB",
        ),
    ],
)  # fmt: skip
def test_a_makefile_without_end_is_ended_and_named(
    kernel: Kernel, tmp_path: Path, recipe: str, bounds: Limits, reason: str
) -> None:
    makefile = f"obj-m := m.o\n$(obj)/m.o: endless\nendless:\n\tcd $(obj); {recipe}\n"
    src = module(tmp_path / "m", {"Makefile": makefile, "m.c": c("m")})
    before = _sandboxed(tmp_path)
    with pytest.raises(BuildError, match=reason) as caught:
        build.build(src, kernel, limits=bounds)
    assert ("LKM_BUILD_TIMEOUT=" in str(caught.value.hint)) == ("longer" in reason)
    assert _sandboxed(tmp_path) == before == []


def _sandboxed(tmp_path: Path) -> list[str]:
    """Processes whose command line names this test's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                entry.name.isdigit()
                and f"M={tmp_path}".encode() in (entry / "cmdline").read_bytes()
            ):
                found.append(entry.name)
    return found


def test_endless_output_is_ended(kernel: Kernel, tmp_path: Path) -> None:
    makefile = "obj-m := m.o\nX := $(shell yes >&2)\n"
    src = module(tmp_path / "m", {"Makefile": makefile, "m.c": c("m")})
    with pytest.raises(BuildError, match="printed more than 1 MiB"):
        build.build(src, kernel, limits=Limits(output=1 << 20))


def test_a_file_that_grows_without_end_hits_the_limit(kernel: Kernel, tmp_path: Path) -> None:
    makefile = "obj-m := m.o\n$(obj)/m.o: huge\nhuge:\n\thead -c 64M /dev/zero > $(obj)/huge\n"
    src = module(tmp_path / "m", {"Makefile": makefile, "m.c": c("m")})
    with pytest.raises(BuildError):
        build.build(src, kernel, limits=Limits(file=8 << 20))


def test_two_builds_of_one_source_at_once_both_succeed(kernel: Kernel, tmp_path: Path) -> None:
    src = module(tmp_path / "m", {"Kbuild": "obj-m := m.o\n", "m.c": c("m")})
    results: list[build.Build | LkmError] = []

    def one() -> None:
        try:
            results.append(build.build(src, kernel))
        except LkmError as error:
            results.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.cached for result in results if isinstance(result, build.Build)) == [
        False,
        True,
    ]


def test_a_sandbox_that_cannot_start_is_this_computer_s_fault(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lkm import sandbox

    real = sandbox.argv
    monkeypatch.setattr(
        sandbox, "argv", lambda *args, **kw: [*real(*args, **kw)[:1], "--ro-bind", "/nowhere", "/x"]
    )
    src = module(tmp_path / "m", {"Kbuild": "obj-m := m.o\n", "m.c": c("m")})
    with pytest.raises(HostError):
        build.build(src, kernel)


def test_flags_reach_the_compiler(kernel: Kernel, tmp_path: Path) -> None:
    body = '#ifdef WANTED\n#warning "seen"\n#endif'
    src = module(tmp_path / "m", {"Kbuild": "obj-m := m.o\n", "m.c": c("m", top=body)})
    assert build.build(src, kernel).diagnostics == ()
    (warning,) = build.build(src, kernel, extra_flags=["-DWANTED"]).diagnostics
    assert "seen" in warning.text


def test_a_change_back_in_time_is_compiled(kernel: Kernel, tmp_path: Path) -> None:
    src = module(tmp_path / "m", {"Kbuild": "obj-m := m.o\n", "m.c": c("m")})
    build.build(src, kernel)
    (src.directory / "m.c").write_text(c("m").replace('"m"', '"another"'))
    os.utime(src.directory / "m.c", (1, 1))
    done = build.build(src, kernel)
    assert done.objects["m"].kernel_object.first("description") == "another"
