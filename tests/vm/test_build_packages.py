"""A source that names Debian packages in its lkm.toml, built with those of the kernel's own suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lkm import kbuild, source
from lkm.errors import BuildError
from lkm.kernels import Kernel, store
from lkm.source import ModuleSource

pytestmark = pytest.mark.vm

MAKEFILE = """\
obj-m := m.o
$(obj)/m.o: $(obj)/version.h
$(obj)/version.h:
\tv=$$(pkg-config --modversion libpkgconf) && echo "#define VERSION \\"$$v\\"" > $@
"""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return store.get("6.12")


@pytest.fixture
def src(tmp_path: Path) -> Iterator[ModuleSource]:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "m.c").write_text(
        '#include <linux/module.h>\n#include "version.h"\n'
        'MODULE_LICENSE("GPL");\nMODULE_INFO(pkgconf, VERSION);\n'
    )
    made = source.find(tmp_path)
    yield made
    kbuild.clean(made)


def test_without_them_the_error_says_where_to_name_them(kernel: Kernel, src: ModuleSource) -> None:
    with pytest.raises(BuildError) as caught:
        kbuild.build(src, kernel)
    assert str(caught.value.hint).startswith("name the Debian package that has pkg-config in")


def test_with_them_it_builds_and_is_not_built_again(kernel: Kernel, src: ModuleSource) -> None:
    (src.directory / "lkm.toml").write_text(
        '[build]\npackages = ["pkgconf | pkg-config", "libpkgconf-dev"]\n'
    )
    first = kbuild.build(src, kernel)
    assert dict(first.objects["m"].kernel_object.modinfo)["pkgconf"]
    assert kbuild.build(src, kernel).cached
    (src.directory / "lkm.toml").unlink()
    with pytest.raises(BuildError, match="does not build"):
        kbuild.build(src, kernel)
