"""What the unit tests say at the end of a run."""

from collections import Counter
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many recorded KQL cases the evaluator answers and how many it refuses: a pass alone does not tell."""
    outcomes = Counter(
        value
        for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
        for name, value in report.user_properties
        if name == "kql_vector"
    )
    if outcomes:
        terminalreporter.write_line(
            f"KQL vectors: {outcomes['exact']} exact, {outcomes['unsupported']} unsupported, {outcomes.total()} in all"
        )
