"""What a module calls: counted, failed, and what it took against what it gave back, on a stock kernel.

A stub in the module's own object goes between it and each function of the tables. `rewrite` makes the object
with stubs, `tracker` the kernel module that they ask, `report` reads what that one says in the log.
"""
