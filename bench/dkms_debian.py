"""Whether lkm and dkms itself agree on what builds: real packages in a real Debian, and `dkms build`.

    python -m bench.dkms_debian [-k K ...] [-p PACKAGE ...] [--suite S] [--minutes N] [--write PAGE]

mmdebstrap makes a Debian with dkms and the kernels' headers, as apt installs them. Each package is then
installed with what it depends on, in an overlay over that Debian which is thrown away, and built by `dkms
build`, without network. Nothing of lkm's takes part: no root, package, header or compiler of its store. Beside
it stands what `lkm build PACKAGE -k K` says: builds, excluded or does not build, and the names of the modules.

For Debian with mmdebstrap, as root: it mounts and changes its root. dkms's answers are kept in DIR, which is
--root DIR, or dkms-debian-SUITE in lkm's store, and are taken from there the next time; delete DIR to begin
anew. One build at a time, small packages first; all of a suite's on two kernels are two hours.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import dkms_survey, page
from bench.dkms_real import CODES, Answer
from lkm import paths, proc
from lkm.errors import HostError
from lkm.kernels import apt, store
from lkm.kernels.catalog import series_of

KERNELS = ("6.12-generic", "7.3.4+deb13-amd64")
MARK = "<!-- dkms's own verdicts: python -m bench.dkms_debian --write -->"
_ENTER = """
root=$1 over=$2
shift 2
mkdir -p "$over/upper" "$over/work" "$over/merged"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$over/upper,workdir=$over/work" "$over/merged"
cd "$over/merged"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
exec chroot . "$@"
"""
_INSTALL = """
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt-get -q -y update >/dev/null
apt-get -q -y --no-install-recommends install "$@"
"""
_BUILD = """
export LC_ALL=C
for release; do
    code=0
    while read -r name version; do
        unshare --net dkms build -m "$name" -v "$version" -k "$release" -a x86_64 </dev/null || code=$?
    done </said/modules >"/said/$release" 2>&1
    echo "$code" >"/said/$release.code"
    # dkms leaves the log of a build that failed where the next one begins.
    cat /var/lib/dkms/*/*/build/make.log >"/said/$release.log" 2>/dev/null || true
done
"""
_POSTINST = """#!/bin/sh
mkdir -p /said
echo "$1 $2" >>/said/modules
exec dkms add -m "$1" -v "$2"
"""
"""In the place of dkms's common.postinst, which goes on to build for one kernel after the other, and fails at
the first that it cannot: the build is asked for afterwards."""


def verdict(answer: Answer) -> tuple[str, tuple[str, ...]]:
    """What is compared. Of a build that failed, how far it came is chance."""
    return answer.state, answer.modules if answer.state == "builds" else ()


def entered(root: Path, over: Path, script: str, *words: str, timeout: float) -> proc.Finished:
    """Run a shell script in the root, in mount and PID namespaces of its own, writing to `over` only."""
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    line = [*spaces, "bash", "-euc", _ENTER, "enter", str(root), str(over)]
    inside = ["bash", "-euc", script, "inside", *words]
    return proc.run([*line, *inside], stage=" ".join(words), timeout=timeout)


def made_root(home: Path, suite: str, releases: Sequence[str]) -> Path:
    """A Debian with dkms and the headers, made where it is not whole yet. Raises HostError."""
    root = home / "root"
    ready = home / "releases"
    if ready.exists() and set(releases) <= set(ready.read_text().split()):
        return root
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    settings = home / "apt.conf"
    dumped = proc.run(["apt-config", "dump"], stage="apt-config", timeout=60, keep_lines=None)
    settings.write_text(
        "\n".join(line for line in dumped.output.splitlines() if line.startswith("Acquire::"))
    )
    mirror = apt.find_mirror()
    _must(
        [
            "mmdebstrap", "--quiet", "--variant=minbase", f"--aptopt={settings}",
            # The headers' package, with all that it depends on, and then dkms, as a user would have it.
            f"--include={','.join([*(f'linux-headers-{each}' for each in releases), 'dkms'])}",
            "--skip=cleanup/apt", suite, str(root),
            f"deb {mirror} {suite} main", f"deb {mirror} {suite}-backports main",
        ]
    )  # fmt: skip
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    postinst = root / "usr/lib/dkms/common.postinst"
    postinst.write_text(_POSTINST)
    postinst.chmod(0o755)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    ready.write_text("\n".join(releases))
    return root


def _must(argv: Sequence[str]) -> None:
    done = proc.run(argv, stage=argv[0], timeout=1800)
    if done.returncode:
        raise HostError(f"{argv[0]} failed", evidence=done.output.splitlines()[-10:])


def by_dkms(root: Path, package: str, releases: Sequence[str]) -> dict[str, Answer]:
    """What `dkms build` says of an installed package, for each release. Raises HostError."""
    over = Path(tempfile.mkdtemp(prefix="over-", dir=root.parent))
    try:
        done = entered(root, over, _INSTALL, package, timeout=1800)
        if done.returncode:
            raise HostError(f"{package} does not install", evidence=done.output.splitlines()[-5:])
        if not (over / "upper/said/modules").exists():
            raise HostError(f"{package} gives dkms nothing to build")
        entered(root, over, _BUILD, *releases, timeout=7200)
        return {release: _answer(over / "upper", release) for release in releases}
    finally:
        shutil.rmtree(over)


def _answer(upper: Path, release: str) -> Answer:
    code = int((upper / f"said/{release}.code").read_text())
    tree = upper / "var/lib/dkms"
    # A set: a test package of dkms has the module of another one, on which it depends.
    names = sorted(
        {path.name.partition(".")[0] for path in tree.glob(f"*/*/{release}/*/module/*.ko*")}
    )
    if not code:
        return Answer("builds", tuple(names))
    lines = [
        line.strip()
        for file in (upper / f"said/{release}.log", upper / f"said/{release}")
        for line in file.read_text(errors="replace").splitlines()
    ]
    return Answer(CODES.get(code, "does not build"), tuple(names), f"{code} {_why(lines)}")


def _why(lines: Sequence[str]) -> str:
    """The line that says most of why a build failed."""
    for wanted in (r":\d+: (fatal )?error: |undefined!", r"^Error!|BUILD_EXCLUSIVE|\*\*\* "):
        if found := next((line for line in lines if re.search(wanted, line)), None):
            return found
    return lines[-1] if lines else ""


def by_lkm(package: str, suite: str, release: str) -> Answer:
    """What `lkm build` says, as a user gets it. Raises HostError for what is no verdict."""
    with tempfile.TemporaryDirectory(prefix="dkms-debian-") as made:
        line = [sys.executable, "-m", "lkm", "build", f"{package}@{suite}", "-k", release]
        line += ["--json", "-o", made]
        done = proc.run(line, stage="lkm build", timeout=7200, keep_lines=None)
    lines = [line for line in done.output.splitlines() if line]
    if done.returncode == 4:
        said = [line for line in lines if line.startswith("lkm: ")] or lines
        return Answer("does not build", words=said[0])
    if done.returncode:
        raise HostError(f"lkm build {package} ended with {done.returncode}", evidence=lines[-5:])
    found = json.loads(done.output[done.output.index("{") :])
    if found["excluded"]:
        return Answer("excluded", words=found["excluded"])
    names = {Path(each["path"]).name.partition(".")[0] for each in found["objects"]}
    return Answer("builds", tuple(sorted(names)))


def kept(home: Path, package: str, releases: Sequence[str]) -> dict[str, Answer] | None:
    """dkms's answers from an earlier run, if they are there for all releases."""
    try:
        data = json.loads((home / f"{package}.json").read_text())
    except OSError:
        return None
    found = {
        name: Answer(each["state"], tuple(each["modules"]), each["words"])
        for name, each in data.items()
    }
    return found if set(releases) <= set(found) else None


def small_first(root: Path, names: Iterable[str]) -> list[str]:
    """Packages in the order of what they occupy when they are installed."""
    shown = proc.run(
        ["chroot", str(root), "apt-cache", "show", "--no-all-versions", *names],
        stage="apt-cache",
        timeout=60,
        keep_lines=None,
    )
    found = re.findall(r"^Package: (\S+)$.*?^Installed-Size: (\d+)$", shown.output, re.M | re.S)
    return [name for name, size in sorted(found, key=lambda each: int(each[1]))]


@dataclass(frozen=True)
class Compared:
    """A package on a kernel, as both have it."""

    package: str
    release: str
    dkms: Answer
    lkm: Answer

    @property
    def agree(self) -> bool:
        return verdict(self.dkms) == verdict(self.lkm)

    @property
    def word(self) -> str:
        """The cell of the table."""
        if self.agree:
            count = len(self.dkms.modules)
            return (
                f"{self.dkms.state}, {count} module{'s' * (count != 1)}"
                if count
                else self.dkms.state
            )
        if self.dkms.state == self.lkm.state:
            return f"**dkms makes {len(self.dkms.modules)} modules, lkm {len(self.lkm.modules)}**"
        return f"**dkms: {self.dkms.state}, lkm: {self.lkm.state}**"


def compare(
    home: Path, root: Path, suite: str, names: Sequence[str], releases: Sequence[str], until: float
) -> Iterator[Compared]:
    """Each package and kernel, until the clock says `until`; after that only what is kept."""
    for package in names:
        theirs = kept(home, package, releases)
        if not theirs and time.monotonic() > until:
            continue
        try:
            if not theirs:
                theirs = by_dkms(root, package, releases)
                data = {release: asdict(answer) for release, answer in theirs.items()}
                (home / f"{package}.json").write_text(json.dumps(data, indent=1))
            for release in releases:
                yield Compared(package, release, theirs[release], by_lkm(package, suite, release))
        except HostError as error:
            print(f"{package}: {error}", file=sys.stderr, flush=True)


def table(found: Sequence[Compared], releases: Sequence[str]) -> Iterator[str]:
    """The Markdown: a row a package."""
    by_place = {(each.package, each.release): each.word for each in found}
    yield f"| package | {' | '.join(series_of(release) for release in releases)} |"
    yield "|---" * (len(releases) + 1) + "|"
    for package in sorted({each.package for each in found}):
        yield f"| {package} | {' | '.join(by_place.get((package, r), '') for r in releases)} |"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-k", "--kernel", action="append", help=f"default: {' '.join(KERNELS)}")
    parser.add_argument("-p", "--package", action="append", help="default: all of the suite")
    parser.add_argument("--suite", default="trixie")
    parser.add_argument("--root", type=Path, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    if os.geteuid():
        sys.exit("this mounts and changes its root: run it as root")
    os.nice(10)
    releases = [store.get(name).release for name in asked.kernel or KERNELS]
    home = (asked.root or paths.cache_dir() / f"dkms-debian-{asked.suite}").resolve()
    root = made_root(home, asked.suite, releases)
    names = asked.package or small_first(root, dkms_survey.packages(asked.suite))
    found = []
    until = time.monotonic() + 60 * asked.minutes
    for each in compare(home, root, asked.suite, names, releases, until):
        found.append(each)
        told = f"dkms {each.dkms}, lkm {each.lkm}"
        print(
            f"{each.package} {each.release}: {f'both: {each.word}' if each.agree else told}",
            flush=True,
        )
    lines = list(table(found, releases))
    if asked.write:
        page.write(asked.write, MARK, lines)
    else:
        print("\n".join(lines))
    differ = sum(not each.agree for each in found)
    print(f"{len(found)} compared, {differ} differ")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
