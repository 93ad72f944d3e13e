"""The two ways in which a query can fail here.

KqlError: the service would refuse this query. Unsupported: this evaluator does not implement the construct or the
value, which says nothing about the service. Syntax outside the grammar is always Unsupported, because a small grammar
cannot distinguish a mistake from a construct that it does not have.
"""


class KqlError(Exception):
    """The query is wrong: an unknown table or column, operands of the wrong type, a key that may not be dynamic."""


class Unsupported(Exception):
    """The query, or a value it met, is outside what this evaluator implements; it refuses instead of guessing."""
