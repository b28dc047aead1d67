"""`python -m fedvol` is the command `fedvol`."""

import sys

from fedvol.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
