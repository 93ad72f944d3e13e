"""Names that are nearly one of the app's own. A misspelt limit is not a limit, so such a name is refused."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, prefix: str = "", cutoff: float = 0.55) -> str:
    """The known name that was probably meant; "" when none is near.

    Only the known names with `prefix` are compared, and only what follows it: what all begin with says nothing about
    which of them was meant. `cutoff` is a ratio of SequenceMatcher, where 1 is the same.
    """
    from difflib import get_close_matches  # only a refusal needs it

    rests = {each[len(prefix) :]: each for each in known if each.startswith(prefix)}
    return next((rests[rest] for rest in get_close_matches(name[len(prefix) :], rests, n=1, cutoff=cutoff)), "")
