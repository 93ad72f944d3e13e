"""What Azure charges for, where the app causes it. List prices in US dollars; docs/costs.md has all of them."""

# Azure Update Manager, per Arc-enabled server and month of 31 days, or per day on which one is connected and an
# operation is ordered on it. Virtual machines cost nothing.
# Source: learn.microsoft.com, Azure Update Manager FAQ, "Pricing", 16 April 2025.
ARC_PER_MONTH, ARC_PER_DAY = 5.0, 0.16


def arc_cost(connected: int) -> float:
    """The most that assessing so many connected servers every day costs in a month; some are exempt (docs/arc.md)."""
    return connected * ARC_PER_MONTH


def arc_cost_told(connected: int) -> str:
    """The same in words."""
    return (
        f"Azure charges for each Arc-enabled server that is assessed: for {connected} connected, at list price, up to "
        f"${arc_cost(connected):,.0f} a month (${ARC_PER_DAY:.2f} per server and day)"
    )
