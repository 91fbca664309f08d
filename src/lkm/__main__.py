"""`python -m lkm` is `lkm`."""

import sys

from lkm.cli import main

if __name__ == "__main__":
    sys.exit(main())
