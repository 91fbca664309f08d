"""Many sources on many kernels: cells, run by any `concurrent.futures.Executor`, and kept by content."""
