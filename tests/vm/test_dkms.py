"""Sources with a dkms.conf, in the sandbox: what dkms would do, and what the file may not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lkm import cli, kbuild, source
from lkm.errors import BuildError, ExcludedError
from lkm.kbuild import workdir
from lkm.kbuild.dkms import reading
from lkm.kbuild.dkms.conf import Conf
from lkm.kbuild.limits import Limits
from lkm.kernels import Kernel, store
from lkm.run import Rig, run
from lkm.verdict import Verdict

pytestmark = pytest.mark.vm

NAMED = 'PACKAGE_NAME="pack"\nPACKAGE_VERSION="1.0"\nDEST_MODULE_LOCATION[0]="/extra"\n'
MODULE = """\
// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>
%s
MODULE_DESCRIPTION("a module of a test");
MODULE_LICENSE("GPL");
"""
EXPORTER = (
    MODULE % "int answer(void);\nint answer(void)\n{\n\treturn OLD;\n}\nEXPORT_SYMBOL(answer);"
)
IMPORTER = MODULE % (
    '#include "made.h"\nint answer(void);\n'
    "static int __init start(void)\n{\n\tint unused;\n\treturn answer() == MADE ? 0 : -EINVAL;\n}\n"
    "static void __exit stop(void)\n{\n}\nmodule_init(start);\nmodule_exit(stop);"
)
PATCH = """\
--- a/lib/exporter.c
+++ b/lib/exporter.c
@@ -5,3 +5,3 @@
 {
-	return OLD;
+	return 42;
 }
"""
TWO = """\
PACKAGE_NAME=two
PACKAGE_VERSION=1.0~git
BUILT_MODULE_NAME[0]=importer
BUILT_MODULE_LOCATION[0]=drv
DEST_MODULE_NAME[0]=importer-new
DEST_MODULE_LOCATION[0]=/kernel/drivers
BUILT_MODULE_NAME[1]=exporter
BUILT_MODULE_LOCATION[1]=lib/
DEST_MODULE_LOCATION[1]=/extra
MAKE[0]="false"
MAKE[1]='make -C $kernel_source_dir M=$dkms_tree/$module/$module_version/build modules'
MAKE_MATCH[1]="^6[.]"
PATCH[0]=answer.patch
PATCH[1]=gone.patch
PATCH_MATCH[1]="^2[.]"
PRE_BUILD="prepare.sh 42"
"""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return store.get()


@pytest.fixture(scope="module")
def older() -> Kernel:
    return store.get("6.1")


@pytest.fixture(autouse=True)
def _own_cache(
    kernel: Kernel, older: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKM_CACHE_DIR", str(tmp_path / "cache"))


def tree(directory: Path, conf: str, files: dict[str, str] | None = None) -> source.ModuleSource:
    for name, text in {"dkms.conf": conf, **(files or {})}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.endswith(".sh") else 0o644)
    return source.find(directory)


def read(kernel: Kernel, directory: Path, conf: str, limits: Limits = reading.LIMITS) -> Conf:
    found = tree(directory, conf)
    work = workdir.work_dir(found, kernel)
    workdir.sync(work, workdir.snapshot(found))
    return reading.read(found, kernel, work, limits)


def test_a_source_is_patched_prepared_and_made_as_dkms_does(kernel: Kernel, tmp_path: Path) -> None:
    found = tree(
        tmp_path / "two",
        TWO,
        {
            "Kbuild": "obj-m := lib/ drv/\n",
            "lib/Kbuild": "obj-m := exporter.o\n",
            "lib/exporter.c": EXPORTER,
            "drv/Kbuild": "obj-m := importer.o\n",
            "drv/importer.c": IMPORTER,
            "patches/answer.patch": PATCH,
            "prepare.sh": '#!/bin/sh\necho "#define MADE $1" >drv/made.h\n',
        },
    )
    done = kbuild.build(found, kernel)
    assert {name: built.path.name for name, built in done.objects.items()} == {
        "importer": "importer-new.ko",
        "exporter": "exporter.ko",
    }
    assert done.objects["importer"].kernel_object.depends == ("exporter",)
    (warning,) = done.diagnostics
    assert (warning.file, warning.line) == (f"{found.directory}/drv/importer.c", 7)
    assert not (found.directory / "drv/made.h").exists()
    commands = json.loads((done.log_path.parent / "compile_commands.json").read_text())
    assert {each["file"] for each in commands} >= {f"{found.directory}/lib/exporter.c"}
    assert kbuild.build(found, kernel).cached
    (found.directory / "lib/exporter.c").write_text(EXPORTER + "\n")
    assert not kbuild.build(found, kernel).cached  # the patch applies to a fresh copy again


def test_modules_may_have_other_names_on_other_kernels(
    kernel: Kernel, older: Kernel, tmp_path: Path
) -> None:
    conf = f"""{NAMED}
case $kernelver in 6.1.*) BUILT_MODULE_NAME=old ;; *) BUILT_MODULE_NAME=new ;; esac
MAKE="make -C $kernel_source_dir M=$dkms_tree/pack/1.0/build NAME=$BUILT_MODULE_NAME"
"""
    found = tree(
        tmp_path / "m", conf, {"Kbuild": "obj-m := $(NAME).o\n", "old.c": MODULE % "", "new.c": MODULE % ""}
    )  # fmt: skip
    assert [*kbuild.build(found, kernel).objects] == ["new"]
    assert [*kbuild.build(found, older).objects] == ["old"]


@pytest.mark.parametrize(
    ("more", "files", "summary", "evidence"),
    [
        ("MAKE=false", {}, "MAKE ended with 1", ""),
        ("MAKE='echo before; no-such-program'", {}, "MAKE ended with 127: ", "no-such-program: command not"),
        ("MAKE=true", {}, "names pack.ko, and make made no module", "did not make pack.ko"),
        ("MAKE='touch other.ko'", {}, "names pack.ko, and make made other.ko", "did not make pack.ko"),
        ("PATCH=no.patch", {}, "the patch no.patch is not in patches/", ""),
        ("PATCH=a.patch", {"patches/a.patch": PATCH}, "the patch a.patch does not apply", "File to patch"),
        ("PATCH=../x/../a.patch", {}, "the patch ../x/../a.patch is outside of patches/", ""),
        ("PRE_BUILD='p.sh 3'", {"p.sh": "#!/bin/sh\nexit $1\n"}, "PRE_BUILD 'p.sh 3' ended with 3", ""),
        ("PRE_BUILD=dkms.conf MAKE=false", {}, "MAKE ended with 1", "PRE_BUILD is not executable"),
        ("BUILD_DEPENDS=other MAKE=false", {}, "MAKE ended with 1", "BUILD_DEPENDS names other"),
        ("BUILT_MODULE_NAME=../../x MAKE=true", {}, "'../../x' cannot be a file's name", ""),
        ("PACKAGE_NAME=", {}, "it has no PACKAGE_NAME", ""),
        ("this is no assignment; unset DEST_MODULE_LOCATION", {}, "", "line 4: this: command not found"),
    ],
)  # fmt: skip
def test_a_build_that_fails_says_at_which_step(
    kernel: Kernel, tmp_path: Path, more: str, files: dict[str, str], summary: str, evidence: str
) -> None:
    found = tree(tmp_path / "pack-1.0", f"{NAMED}{more}\n", files)
    with pytest.raises(BuildError) as caught:
        kbuild.build(found, kernel)
    assert summary in caught.value.summary
    assert evidence in "\n".join(caught.value.evidence)


def test_flags_reach_every_make(kernel: Kernel, tmp_path: Path) -> None:
    conf = NAMED + "MAKE='make -f own.mk'\n"
    show = "all:\n\t@echo '<$(KCFLAGS)> <$(WHO)>'; false\n"
    found = tree(tmp_path / "m", conf, {"own.mk": show})
    with pytest.raises(BuildError) as caught:
        kbuild.build(found, kernel, extra_flags=["-DA=1", "-DB", "WHO=a b"])
    assert "<-DA=1 -DB> <a b>" in caught.value.evidence


def test_a_kernel_that_is_not_wanted_is_excluded_and_not_red(
    kernel: Kernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("lkm.cli.build.kernel_named", lambda *_: kernel)
    directory = tmp_path / "pack-1.0"
    found = tree(directory, NAMED + "BUILD_EXCLUSIVE_CONFIG='CONFIG_MODULES CONFIG_NO_SUCH'\n")
    reason = "BUILD_EXCLUSIVE_CONFIG=CONFIG_NO_SUCH: CONFIG_NO_SUCH is not set"
    with pytest.raises(ExcludedError) as caught:
        kbuild.build(found, kernel)
    assert caught.value.reason == reason
    assert cli.main(["build", str(directory)]) == 0
    assert reason in capsys.readouterr().out
    assert cli.main(["build", "--json", str(directory)]) == 0
    assert json.loads(capsys.readouterr().out)["excluded"] == reason
    outcome = run(directory, kernel, Rig(lambda name: pytest.fail(f"a machine for {name}")))
    (module,) = outcome.modules
    assert (module.name, module.verdict, module.reason) == ("pack", Verdict.EXCLUDED, reason)
    assert outcome.ok


# What the file may not


def test_the_file_is_read_for_each_kernel_with_the_variables_of_dkms(
    kernel: Kernel, tmp_path: Path
) -> None:
    conf = f"""{NAMED}
[ -e $kernel_source_dir/Makefile ] && [ -e $kernel_source_dir/.config ] && [ -r "$kernel_config" ] && A=a
[ $(dirname ${{BASH_SOURCE[0]}})/dkms.conf -ef $dkms_tree/$module/$module_version/source/dkms.conf ] && B=b
BUILT_MODULE_NAME="$A$B-$kernelver-$arch-$module"
BUILD_EXCLUSIVE_KERNEL="[[:digit:]]+[.]"
MAKE="one   two"
"""
    meant = read(kernel, tmp_path / "m", conf)
    assert meant.modules[0].path == f"ab-{kernel.release}-x86_64-pack.ko"
    assert (meant.make, meant.excluded, meant.said) == ("one two", None, ())


@pytest.mark.parametrize(
    ("trick", "said"),
    [
        ("echo x >{home}/written", "No such file or directory"),
        ("echo x >/usr/written", "Read-only file system"),
        ("echo x >/lkm/source/written", "Read-only file system"),
        ("echo x >$kernel_source_dir/written", "Read-only file system"),
        ("cat {home}/secret", "No such file or directory"),
        ("echo x >/dev/tcp/127.0.0.1/{port}", "onnect"),
        ("kill -9 1 $PPID; rm -rf /usr/bin", "cannot remove"),
        ("yes >/tmp/flood", "File size limit exceeded"),
    ],
)
def test_what_the_file_tries_is_confined_and_told(
    kernel: Kernel, tmp_path: Path, trick: str, said: str
) -> None:
    import socket

    home = tmp_path / "home"
    home.mkdir()
    (home / "secret").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        line = trick.format(home=home, port=server.getsockname()[1])
        meant = read(kernel, tmp_path / "m", f"{NAMED}{line}\n")
        with pytest.raises(TimeoutError):
            server.accept()
    assert meant.name == "pack"
    assert any(said in each for each in meant.said)
    assert os.listdir(home) == ["secret"]  # noqa: PTH208
    assert not (kernel.build_dir_on_host / "written").exists()


@pytest.mark.parametrize(
    ("trick", "why"),
    [
        ("while :; do :; done", "it ran longer than 1 s"),
        ("sleep 60", "it ran longer than 1 s"),
        (
            "x=$(printf %600s | tr ' ' x); for i in {1..2000}; do MAKE[i]=$x; done",
            "it printed more than 1 MiB",
        ),
        ("yes >&2", "it ended the shell"),
        ("kill -9 $$", "it ended the shell"),
        ("exit", "it has no PACKAGE_NAME"),
        ("exec true", "it has no PACKAGE_NAME"),
        ("PACKAGE_NAME='$(kill -9 $$)'", "it ended the shell"),
    ],
)
def test_a_file_that_goes_over_a_limit_or_ends_its_shell_is_named(
    kernel: Kernel, tmp_path: Path, trick: str, why: str
) -> None:
    seconds = 1 if "longer" in why else 60
    limits = Limits(seconds, processes=64, memory=1 << 30, file=1 << 23, output=1 << 20)
    with pytest.raises(BuildError) as caught:
        read(kernel, tmp_path / "m", f"{trick}\n{NAMED if 'PACKAGE' not in trick else ''}", limits)
    assert why in caught.value.summary
    assert str(tmp_path / "m/dkms.conf") in str(caught.value.hint)


def test_processes_that_the_file_starts_do_not_outlive_it(kernel: Kernel, tmp_path: Path) -> None:
    conf = NAMED + "for i in 1 2 3; do setsid sleep 4711 & done\n"
    assert read(kernel, tmp_path / "m", conf).name == "pack"
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(line == b"sleep\x004711\0" for line in lines)


def test_a_package_is_run_by_its_name(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()  # the package and the machine that others use
    assert cli.main(["run", "--json", "vpoll-dkms"]) == 0
    (module,) = json.loads(capsys.readouterr().out)["modules"]
    assert (module["name"], module["verdict"]) == ("vpoll", "ok")
