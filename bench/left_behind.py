"""What the kernel's own modules leave behind, judged by hand: it is true, and this is why.

A module's name, then pairs of what the problem's line has and the reason. Of 125 modules of Linux 6.12, ten
were said to leave something. None of it was true of the modules, and it is not reported any more:

- links in /sys/kernel/slab, which SLUB forgets (sysfs_slab_alias(), mm/slub.c): drbd, dm_snapshot, netfs, nfsd,
  orangefs, cifs, nf_conncount, openvswitch, sunrpc;
- instances of crypto templates, which stay for the next user (crypto/algapi.c): tcrypt.
"""

from __future__ import annotations

KNOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "scsi_debug": (
        (
            "the slab cache scsi_sense_cache",
            "scsi_mod makes it for the first host, and keeps it (drivers/scsi/scsi_lib.c)",
        ),
    ),
}
