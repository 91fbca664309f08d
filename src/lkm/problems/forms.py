"""The forms in which the kernel reports a problem: how each begins, goes on and ends.

Every form is anchored to the start of a line and spelled as its print site does, so that a module
that merely says `BUG` or `WARNING` in its own words is not taken for the kernel. The sites, and how
they changed from 5.10 to 7.3, x86 first:

    arch/x86/mm/fault.c         BUG: kernel NULL pointer dereference, BUG: unable to handle page fault
    arch/x86/kernel/dumpstack.c `WHAT: 0000 [#1] SMP`, since 6.10 with `Oops: ` before it
    arch/x86/kernel/traps.c     BUG: stack guard page (TASK stack since 5.16), PANIC: double fault
    lib/bug.c                   kernel BUG at FILE:LINE!
    kernel/panic.c              Kernel panic - not syncing; ---[ end trace; WARNING, in two forms:
                                  to 6.18   WARNING: CPU: 0 PID: 78 at FILE:LINE FUNCTION
                                  then      WARNING: [CONDITION] FILE:LINE at FUNCTION, CPU#0: COMM/PID
    kernel/sched/core.c         BUG: scheduling while atomic, BUG: sleeping function called
    kernel/watchdog.c           BUG: soft lockup; hard LOCKUP (kernel/watchdog_hld.c before 6.5)
    kernel/hung_task.c          INFO: task COMM:PID blocked for more than N seconds
    kernel/rcu/tree_stall.h     INFO: rcu_preempt self-detected stall on CPU
    kernel/locking/lockdep.c    WARNING: possible circular locking dependency detected, ...
    kernel/module/main.c        'NAME'->init suspiciously returned (`NAME: init` in 7.x)
    init/main.c                 initcall FUNCTION returned with preemption imbalance
    lib/list_debug.c            list_add corruption, list_del corruption
    lib/refcount.c              refcount_t: ...
    lib/ubsan.c                 UBSAN: WHAT in FILE:LINE:COLUMN
    lib/debugobjects.c          ODEBUG: ...
    mm/kasan, kfence, kcsan, kmsan, kmemleak.c, slub.c, memory.c, page_alloc.c, usercopy.c
    fs/sysfs/dir.c              sysfs: cannot create duplicate filename
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lkm.problems.later import Later

__all__ = [
    "BODY",
    "CUT_HERE",
    "END_MARKER",
    "FORMS",
    "FRAME",
    "MESSAGES",
    "REGISTERS",
    "RULE",
    "STACK_BEGINS",
    "STACK_ENDS",
    "TRAILER",
    "Form",
    "ProblemKind",
    "Until",
]


class ProblemKind(StrEnum):
    """What the kernel reports, by its own name for it."""

    OOPS = "oops"
    BUG = "BUG"
    WARNING = "WARNING"
    PANIC = "panic"
    HUNG = "hung"
    DOUBLE_FAULT = "double-fault"
    STACK_OVERFLOW = "stack-overflow"
    SOFT_LOCKUP = "soft-lockup"
    HARD_LOCKUP = "hard-lockup"
    HUNG_TASK = "hung-task"
    RCU_STALL = "rcu-stall"
    SCHEDULING_WHILE_ATOMIC = "scheduling-while-atomic"
    INVALID_SLEEP = "sleeping-in-invalid-context"
    UNBALANCED = "unbalanced-context"
    LIST_CORRUPTION = "list-corruption"
    REFCOUNT = "refcount"
    UBSAN = "UBSAN"
    KASAN = "KASAN"
    KCSAN = "KCSAN"
    KMSAN = "KMSAN"
    KFENCE = "KFENCE"
    KMEMLEAK = "kmemleak"
    LOCKDEP = "lockdep"
    DEBUG_OBJECTS = "debug-objects"
    SLAB = "slab-corruption"
    BAD_PAGE = "bad-page"
    SUSPICIOUS_RETURN = "suspicious-return"
    SYSFS_DUPLICATE = "sysfs-duplicate"
    LEFT_BEHIND = "left-behind"
    LEAK = "leak"
    KUNIT = "KUnit"
    DOUBLE_FREE = "double-free"
    BAD_FREE = "bad-free"
    LOCK_HELD = "lock-held"


class Until(StrEnum):
    """What ends a report."""

    MARKER = "its end marker"
    STACK = "the end of its call trace"
    LINE = "its first line"


@dataclass(frozen=True)
class Form:
    """How one kind of report begins.

    `start` is the pattern of the line that says what it is, and can only match where `needle` occurs: a
    hundred thousand harmless lines cost little, and nothing is compiled for them. Its groups `comm`,
    `pid`, `function`, `module`, `file` and `line` mean what they say; `summary` is the part to quote, if
    not the whole line. `within` are the kinds whose report may go on with this line: there it does not
    begin a report of its own.
    """

    kind: ProblemKind
    needle: str
    start: str
    until: Until
    within: frozenset[ProblemKind] = frozenset()


_K = ProblemKind
_TASK = r"(?P<comm>.{1,64})[:/](?P<pid>\d+)"
_PLACE = r"(?P<file>[^\s:]+):(?P<line>\d+)"
_FUNCTION = (
    r"(?P<function>[\w.$]+\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[\S+(?: [0-9a-f]+)?\])?|0x[0-9a-f]+)"
)

# `divide error: 0000 [#1] PREEMPT SMP NOPTI`
_DIED = r": [0-9a-f]{4,16} \[#\d+\]"

# What died, where no `Oops: ` comes before it (to 6.9): arch/x86/kernel/traps.c, mm/fault.c.
_TRAPS = (
    "Oops|divide error|int3|overflow|bounds|invalid opcode|device not available|invalid TSS"
    "|coprocessor segment overrun|segment not present|stack segment|general protection fault"
    "|alignment check|simd exception|fpu exception|coprocessor|control protection fault|machine check"
    "|Bad pagetable|NULL pointer|VE fault|unhandled|missing"
)

# die() speaks after whoever found the reason has spoken.
_FAULTS = frozenset({_K.OOPS, _K.BUG, _K.STACK_OVERFLOW, _K.DOUBLE_FAULT, _K.LIST_CORRUPTION})


def _forms(
    kind: ProblemKind,
    needle: str,
    *starts: str,
    until: Until = Until.STACK,
    within: frozenset[ProblemKind] = frozenset(),
) -> list[Form]:
    return [Form(kind, needle, start, until, within) for start in starts]


FORMS: tuple[Form, ...] = (
    *_forms(_K.PANIC, "panic", r"Kernel panic - not syncing: "),
    *_forms(
        _K.OOPS,
        "nable to handle ",
        r"BUG: unable to handle (?:page fault for address|kernel .* at|.*): ?",
        r"Unable to handle kernel .* at virtual address ",
        until=Until.MARKER,
    ),
    *_forms(_K.OOPS, "NULL pointer", r"BUG: kernel NULL pointer dereference, ", until=Until.MARKER),
    *_forms(
        _K.STACK_OVERFLOW,
        "stack guard",
        r"BUG: (?:\S+ )?stack guard page was hit at ",
        until=Until.MARKER,
    ),
    *_forms(
        _K.DOUBLE_FAULT,
        "PANIC: ",
        r"(?:traps: )?(?P<summary>PANIC: double fault)\b",
        until=Until.MARKER,
        within=_FAULTS,
    ),
    *_forms(
        _K.BUG,
        "ernel BUG at ",
        rf"kernel BUG at {_PLACE}!",
        r"[kK]ernel BUG at .* \[verbose debug info unavailable\]",
        until=Until.MARKER,
        within=frozenset({_K.LIST_CORRUPTION, _K.BUG}),
    ),
    *_forms(
        _K.STACK_OVERFLOW,
        "[#",
        rf"(?:Oops: )?(?P<summary>stack guard page|kernel stack overflow .*?){_DIED}",
        until=Until.MARKER,
        within=_FAULTS,
    ),
    *_forms(
        _K.DOUBLE_FAULT,
        "[#",
        rf"(?:Oops: )?(?P<summary>double fault){_DIED}",
        until=Until.MARKER,
        within=_FAULTS,
    ),
    *_forms(
        _K.OOPS,
        "[#",
        rf"(?:Internal error|Oops): (?P<summary>[^:].*?){_DIED}",
        rf"(?P<summary>(?:{_TRAPS})[^:]*){_DIED}",
        until=Until.MARKER,
        within=_FAULTS,
    ),
    *_forms(
        _K.WARNING,
        "WARNING: ",
        rf"WARNING: CPU: \d+ PID: (?P<pid>\d+) at {_PLACE} {_FUNCTION}",
        rf"WARNING: CPU: \d+ PID: (?P<pid>\d+) at {_FUNCTION}",
        rf"WARNING: (?:\[(?P<condition>.*)\] )?{_PLACE} at {_FUNCTION}, CPU#\d+: {_TASK}$",
        rf"WARNING: at {_FUNCTION}, CPU#\d+: {_TASK}$",
        until=Until.MARKER,
        within=frozenset({_K.LIST_CORRUPTION, _K.SLAB}),
    ),
    *_forms(
        _K.KASAN,
        "KASAN: ",
        rf"BUG: KASAN: [\w -]+ in {_FUNCTION}",
        r"BUG: KASAN: (?:double-free|invalid-)",
        until=Until.MARKER,
    ),
    *_forms(_K.KFENCE, "KFENCE: ", rf"BUG: KFENCE: [\w -]+ in {_FUNCTION}", until=Until.MARKER),
    *_forms(_K.KCSAN, "KCSAN: ", r"BUG: KCSAN: [\w -]+ in ", until=Until.MARKER),
    *_forms(_K.KMSAN, "KMSAN: ", rf"BUG: KMSAN: [\w -]+ in {_FUNCTION}", until=Until.MARKER),
    *_forms(_K.UBSAN, "UBSAN: ", rf"UBSAN: [\w -]+ in {_PLACE}(?::\d+)?$", until=Until.MARKER),
    *_forms(_K.SCHEDULING_WHILE_ATOMIC, "atomic: ", rf"BUG: scheduling while atomic: {_TASK}/0x"),
    *_forms(
        _K.INVALID_SLEEP,
        "sleeping function",
        rf"BUG: sleeping function called from invalid context at {_PLACE}",
    ),
    *_forms(
        _K.SOFT_LOCKUP,
        "soft lockup",
        rf"(?:watchdog: )?(?P<summary>BUG: soft lockup - CPU#\d+ stuck for \d+s!) \[{_TASK}\]",
    ),
    *_forms(
        _K.HARD_LOCKUP,
        "hard LOCKUP",
        r"(?:NMI )?watchdog: (?:CPU\d+: )?(?P<summary>Watchdog detected hard LOCKUP on cpu \d+)",
    ),
    *_forms(
        _K.HUNG_TASK,
        "INFO: task ",
        rf"INFO: task {_TASK} blocked(?: in .*)? for more than \d+ seconds",
    ),
    *_forms(
        _K.RCU_STALL,
        "detected ",
        r"(?:rcu: )?(?P<summary>INFO: \w+ (?:self-)?detected (?:expedited )?stalls? on [\w/]+)",
    ),
    *_forms(
        _K.LOCKDEP,
        "WARNING: ",
        r"WARNING: possible (?:circular|recursive) locking (?:dependency )?detected",
        r"WARNING: possible irq lock inversion dependency detected",
        r"WARNING: \S+-safe -> \S+-unsafe lock order detected",
        r"WARNING: inconsistent lock state",
        r"WARNING: bad (?:unlock balance|contention) detected!",
        r"WARNING: held lock freed!",
        r"WARNING: .{1,64}/\d+ still has locks held!",
        r"WARNING: lock held when returning to user space!",
        r"WARNING: Nested lock was not taken",
        r"WARNING: suspicious RCU usage",
    ),
    *_forms(_K.LOCKDEP, "Invalid wait context", r"\[ BUG: Invalid wait context \]"),
    *_forms(_K.LOCKDEP, "non-static key", r"INFO: trying to register non-static key\."),
    *_forms(
        _K.LOCKDEP,
        "BUG: ",
        r"BUG: key \S+ (?:not in \.data!|has not been registered!)",
        r"BUG: MAX_(?:LOCK|STACK)\w+ too low!",
    ),
    *_forms(
        _K.LIST_CORRUPTION,
        "list_",
        r"list_(?:add|del) (?:corruption|double add)",
        until=Until.MARKER,
        within=frozenset({_K.WARNING}),
    ),
    *_forms(
        _K.SLAB, "BUG ", r"(?P<summary>BUG \S.*) \((?:Tainted: |Not tainted).*?\)(?P<more>: .*)"
    ),
    *_forms(_K.BAD_PAGE, "Bad page", r"BUG: Bad page (?:cache|map|state) in process "),
    *_forms(
        _K.BUG,
        "usercopy: ",
        r"usercopy: (?P<summary>Kernel memory .* attempt detected .*)",
        until=Until.MARKER,
    ),
    *_forms(_K.UNBALANCED, "BUG: workqueue leaked", r"BUG: workqueue leaked (?:atomic|lock)"),
    *_forms(_K.UNBALANCED, "softirq: huh", r"softirq: huh, entered softirq ", until=Until.LINE),
    *_forms(
        _K.BUG,
        "BUG: ",
        r"BUG: Bad rss-counter state ",
        r"BUG: non-zero pgtables_bytes on freeing mm",
        r"BUG: Dentry \S+ +still in use",
        r"BUG: mempool element poison mismatch",
        until=Until.LINE,
    ),
    *_forms(
        _K.BUG,
        "BUG: ",
        r"BUG: workqueue lockup - pool",
        r"BUG: using \S+ in preemptible \[",
        r"BUG: (?:spinlock|rwlock) .*on CPU#\d+",
        r"BUG: atomic counter underflow",
    ),
    *_forms(
        _K.KMEMLEAK,
        "kmemleak: ",
        r"kmemleak: (?P<summary>\d+ new suspected memory leaks?)",
        until=Until.LINE,
        within=frozenset({_K.KMEMLEAK}),
    ),
    *_forms(
        _K.KMEMLEAK,
        "kmemleak: unref",
        r"kmemleak: (?P<summary>unreferenced object 0x[0-9a-f]+ \(size \d+\))",
        until=Until.STACK,
    ),
    *_forms(
        _K.SUSPICIOUS_RETURN,
        "suspiciously",
        r"do_init_module: '(?P<module>\S+)'->init suspiciously returned -?\d+,",
        r"(?P<module>\S+): init suspiciously returned -?\d+,",
    ),
    *_forms(
        _K.SYSFS_DUPLICATE,
        "duplicate filename",
        r"(?:sysfs: )?(?P<summary>cannot create duplicate filename '.*')",
    ),
)

# What the message of a WARNING makes of it.
MESSAGES: tuple[tuple[ProblemKind, str], ...] = (
    (_K.REFCOUNT, r"refcount_t: "),
    (_K.LIST_CORRUPTION, r"list_(?:add|del) (?:corruption|double add)"),
    (_K.DEBUG_OBJECTS, r"ODEBUG: "),
    (_K.LOCKDEP, r"DEBUG_LOCKS_WARN_ON\("),
    (_K.UNBALANCED, rf"initcall {_FUNCTION} returned with (?:preemption|disabled)"),
    (_K.UNBALANCED, rf"timer: {_FUNCTION} preempt leak: "),
    (_K.SLAB, r"kmem_cache_destroy .*: Slab cache still has objects"),
)

CUT_HERE = "------------[ cut here ]------------"
RULE = Later(r"={20,}")
END_MARKER = Later(r"---\[ end trace |={20,}$")
STACK_BEGINS = Later(r"Call [Tt]race:|  backtrace[: ]")
STACK_ENDS = Later(r" </TASK>")

REGISTERS = Later(r"(?:[RE]?[A-DS][XIPS]|R\d\d|[RE]IP|[RE]?[SB]P|[C-GS]S|[CD]R\d|PKRU|Code): ")

FRAME = Later(
    r"\s*(?:\[<[0-9a-f]+>\] )?(?P<guess>\? )?(?:"
    r"(?P<name>[\w.$]+)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
    r"(?: \[(?P<module>[^\] ]+)(?: [0-9a-f]+)?\])?|0x(?P<address>[0-9a-f]+))(?:$|[ ,:])"
)

# Lines that belong to a report and are not frames or registers. What is missing here costs no more
# than an end that comes a line too early, where a report has no end marker.
BODY = Later(
    "|".join(
        [
            r" *</?#?[A-Z]\w+>",
            r"CPU: \d+ |Hardware name: |Workqueue: |\s*(?:Tainted: |Not tainted)",
            r"Kernel Offset: |Rebooting in |---\[ end Kernel panic",
            r"Modules linked in:|Call [Tt]race:|stack backtrace:|PGD |#PF: |Oops: |KASAN: ",
            r"in_atomic\(\)|preempt_count: |RCU nest depth: |Preemption disabled at:|INFO: lockdep is",
            r"(?:soft|hard)irqs last|irq event stamp:|\d+ locks? held by|no locks held by| #\d+: ",
            r"rcu: |\s*\((?:t=|detected by)|Sending NMI |NMI backtrace for |task:|\"echo 0 > ",
            r"(?:Left |Right )?(?:Redzone|Object|Padding|Bytes b4) |Slab 0x|0x[0-9a-f]+-0x",
            r"-{20,}|INFO: (?:Slab|Object|Allocated|Freed|0x)|(?:Allocated|Freed) (?:in|by) ",
            r"page:|raw: |flags: |page dumped because:|The buggy address|kfence-#|(?:allocated|freed) by ",
            r'  (?:comm "|hex dump|backtrace)| {4}[0-9a-f]{2} ',
            r"(?:read|write|race) .*0x[0-9a-f]+ of \d+ bytes by ",
        ]
    )
)

# What may follow the end of a report at once, and still belongs to it: the registers once more
# (oops_end, show_regs), the slab's repair, kobject's last words.
TRAILER = Later(
    r"note: .*exited with|FIX |kobject|INFO: task \S+ (?:is )?blocked on|" + REGISTERS.pattern
)
