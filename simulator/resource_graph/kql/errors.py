"""The two ways a query can fail here, and they are never mixed up.

KqlError says the service would refuse this query. Unsupported says only that this evaluator does not know the
construct or the value: nothing about the service. Syntax outside the grammar is always Unsupported, because a small
grammar cannot tell a mistake from a construct it never learned.
"""


class KqlError(Exception):
    """The query is wrong: an unknown table or column, operands of the wrong type, a key that may not be dynamic."""


class Unsupported(Exception):
    """The query, or a value it met, is outside what this evaluator does; it refuses instead of guessing."""
