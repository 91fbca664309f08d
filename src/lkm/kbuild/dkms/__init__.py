"""DKMS: what a dkms.conf says for a kernel, asked in the sandbox, and the build that it describes."""
