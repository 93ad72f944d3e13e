"""`python -m tests.calendars`: every calendar over 180 days: how late its patches were, and whether its forecasts held.

Fails where a promise is missed.

--days N    the days in which patches are published (180)
--only TEXT the calendars with this text in their names
"""

import argparse
import sys

from tests.calendars.outcome import HEAD, PROMISED, outcome
from tests.calendars.table import CALENDARS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.calendars")
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--only", default="")
    wanted = parser.parse_args()
    print(HEAD)
    missed = 0
    promised = [PROMISED]
    for calendar in CALENDARS:
        if wanted.only in calendar.name:
            found = outcome(calendar, days=wanted.days)
            print(found.row(), flush=True)
            promised.append(found.promised())
            for problem in found.problems():
                print(f"    {problem}", flush=True)
                missed += 1
    print("", *promised, sep="\n")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
