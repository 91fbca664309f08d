"""The log of a machine from more than one source: each record once, in its order."""

from __future__ import annotations

from typing import Any, cast

from lkm.log import Record, parse_kmsg
from lkm.vm.kernel_log import KernelLog


def kmsg(*numbers: int) -> bytes:
    return b"".join(b"6,%d,%d,-;line %d\n" % (n, n * 10, n) for n in numbers)


def log(*, told: bytes = b"", asks: bool = True, behind: bool = False) -> KernelLog:
    def ask() -> bool:
        made.take(told)
        return asks

    made = KernelLog(cast("Any", None), ask, is_behind=behind)
    return made


def texts(records: list[Record]) -> list[str]:
    return [record.text for record in records]


def test_what_comes_twice_is_there_once() -> None:
    made = log()
    made.take(kmsg(3, 4))
    made.take(kmsg(3, 4, 5))
    assert texts(made.records) == ["line 3", "line 4", "line 5"]


def test_the_agents_marks_are_left_out() -> None:
    made = log()
    made.take(kmsg(1) + b"15,2,20,-;lkm-agent: mark\n" + kmsg(3))
    assert texts(made.records) == ["line 1", "line 3"]


def test_refresh_returns_what_the_session_tells() -> None:
    made = log(told=kmsg(1, 2))
    assert texts(made.refresh()) == ["line 1", "line 2"]
    assert made.refresh() == []


def test_a_copy_goes_on_behind_what_it_begins_with() -> None:
    made = log(told=kmsg(1, 2, 3))
    made.begin_with(parse_kmsg(kmsg(1, 2)))
    assert texts(made.refresh()) == ["line 3"]
    assert len(made.records) == 3


def test_position_is_where_the_first_record_of_an_answer_is() -> None:
    made = log()
    made.take(kmsg(1, 2, 3))
    assert made.position(parse_kmsg(kmsg(2, 3))) == 1
    assert made.position([]) == 3


def test_a_session_that_has_told_others_is_not_asked_first() -> None:
    class Talk:
        def send(self, *_: Any, **__: Any) -> int:
            return 1

        def receive(self, _: float) -> Any:
            return frames.pop(0)

    from lkm.vm.wire import Frame, Op

    frames = [Frame(Op.LOG, 0, 1, kmsg(1, 2, 3)), Frame(Op.END, 0, 1, b"")]
    made = log(told=kmsg(3), behind=True)
    made._talk = lambda: cast("Any", Talk())  # type: ignore[method-assign]
    assert texts(made.refresh()) == ["line 1", "line 2", "line 3"]
    made.refresh()
    assert not frames
