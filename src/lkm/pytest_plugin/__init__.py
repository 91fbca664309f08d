"""The pytest plugin: a fresh kernel for every test. pytest finds it by itself where lkm is installed.

Imported in every pytest run, so what is slow to import is imported where a test needs it.
"""
