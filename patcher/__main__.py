"""`python -m patcher`, and the console script `patcher`."""

import sys

from patcher.commands import main

if __name__ == "__main__":
    sys.exit(main())
