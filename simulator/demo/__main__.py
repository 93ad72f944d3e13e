"""`python -m simulator.demo`: exit code 0 when every machine ended as expected, 1 otherwise.

`--logs FILE` writes what Application Insights received (simulator/monitor/logs.py), for the workbook's tests.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from simulator.demo.stage import run
from simulator.deployment import DeploymentError
from simulator.storage.azurite import AzuriteUnavailable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulator.demo")
    parser.add_argument("--logs", type=Path, metavar="FILE", help="write the telemetry of the run to FILE (.json.gz)")
    parser.add_argument("--slow", action="store_true", help="for an audience: everything takes longer")
    options = parser.parse_args()
    try:
        return 0 if asyncio.run(run(options.logs, slow=options.slow)) else 1
    except (AzuriteUnavailable, DeploymentError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
