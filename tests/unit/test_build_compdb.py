"""Reading Kbuild's .cmd files."""

from __future__ import annotations

from lkm.kbuild import compdb

LINUX_6_12 = """\
savedcmd_/m/hello.o := gcc-14 -Wp,-MMD,/m/.hello.o.d -I/usr/src/common/include -I./include -include \
/usr/src/common/kconfig.h -DV='"a b"' -D__KBUILD_MODNAME=kmod_hello -fmacro-prefix-map=/usr/src/common/= \
-D'X=$$y$(pound)' -c -o /m/hello.o /m/hello.c  ; ./tools/objtool/objtool --orc /m/hello.o

source_/m/hello.o := /m/hello.c

deps_/m/hello.o := \\
    $(wildcard include/config/FOO) \\
  /usr/src/common/include/linux/module.h \\
  include/generated/autoconf.h \\
  /m/foo.h \\

/m/hello.o: $(deps_/m/hello.o)

$(deps_/m/hello.o):
"""
LINUX_6_13 = """\
savedcmd_hello.o := gcc -c -o hello.o hello.c

source_hello.o := hello.c

deps_hello.o := \\
  foo.h \\
"""
LINUX_5_10 = (
    "cmd_/m/a.o := gcc -c -o /m/a.o /m/a.c\n\nsource_/m/a.o := /m/a.c\n\ndeps_/m/a.o := \\\n"
)


def read(text: str) -> compdb.Command:
    command = compdb.read(text, module_dir="/m", build_dir="/usr/src/build")
    assert command
    return command


def test_a_compilation_is_read_without_the_objtool_after_it() -> None:
    command = read(LINUX_6_12)
    assert command.arguments[0] == "gcc-14"
    assert command.arguments[-1] == "/m/hello.c"
    assert '-DV="a b"' in command.arguments
    assert "-DX=$y#" in command.arguments
    assert command.directory == "/usr/src/build"
    assert command.dependencies == (
        "/usr/src/common/include/linux/module.h",
        "include/generated/autoconf.h",
        "/m/foo.h",
    )
    assert (
        command.absolute(command.dependencies[1]) == "/usr/src/build/include/generated/autoconf.h"
    )


def test_since_6_13_names_are_relative_to_the_module_directory() -> None:
    command = read(LINUX_6_13)
    assert (command.directory, command.absolute(command.source)) == ("/m", "/m/hello.c")
    assert command.dependencies == ("foo.h",)


def test_before_6_2_the_command_has_another_name() -> None:
    command = read(LINUX_5_10)
    assert (command.target, command.dependencies) == ("/m/a.o", ())


def test_links_and_strange_files_are_not_compilations() -> None:
    for text in ("", "savedcmd_/m/a.ko := ld -r -o /m/a.ko /m/a.o\n", "\0\0", "source_a := b\n"):
        assert compdb.read(text, module_dir="/m", build_dir="/b") is None


def test_entries_have_the_host_s_paths() -> None:
    def locate(path: str) -> str:
        return path if path.startswith("/m") else f"/store{path}"

    (entry,) = compdb.entries([read(LINUX_6_12)], locate)
    assert entry["directory"] == "/store/usr/src/build"
    assert (entry["file"], entry["output"]) == ("/m/hello.c", "/m/hello.o")
    arguments = entry["arguments"]
    assert "-I/store/usr/src/common/include" in arguments
    assert "-I./include" in arguments
    assert "-Wp,-MMD,/m/.hello.o.d" in arguments
    assert arguments[arguments.index("-include") + 1] == "/store/usr/src/common/kconfig.h"
    assert "-fmacro-prefix-map=/store/usr/src/common/=" in arguments
