"""Every call of a module that can fail, failed once, each on a machine of its own."""
