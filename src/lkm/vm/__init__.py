"""The machine: QEMU, the frozen guest that every run is restored from, and the agent in it."""
