"""`python -m simulator.demo`: exit code 0 when every machine ended as it should, 1 otherwise."""

from __future__ import annotations

import asyncio
import sys

from simulator.azurite import AzuriteUnavailable
from simulator.demo.stage import run


def main() -> int:
    try:
        return 0 if asyncio.run(run()) else 1
    except AzuriteUnavailable as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
