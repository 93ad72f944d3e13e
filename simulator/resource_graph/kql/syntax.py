"""The tree of a query: frozen nodes. Nothing here knows a table, a type or a function.

An operator over one table equals itself alone: what is compiled of it is kept under it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the text a node stands; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant; `text` is as written, without quotes."""

    type: str
    text: str
    at: Place


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    at: Place


@dataclass(frozen=True, slots=True)
class Member:
    """One step into a dynamic value: by name into an object, by number into an array."""

    base: "Expression"
    key: str | int
    at: Place


@dataclass(frozen=True, slots=True)
class Element:
    """A step whose key is computed."""

    base: "Expression"
    key: "Expression"
    at: Place


@dataclass(frozen=True, slots=True)
class Call:
    """`names`: the names that were given to arguments, in their order; None for most."""

    function: str
    arguments: tuple["Expression", ...]
    at: Place
    names: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Negative:
    value: "Expression"
    at: Place


@dataclass(frozen=True, slots=True)
class Star:
    """All other columns: only an argument of arg_max and arg_min."""

    at: Place


@dataclass(frozen=True, slots=True)
class Binary:
    left: "Expression"
    operator: str
    right: "Expression"
    at: Place


@dataclass(frozen=True, slots=True)
class Membership:
    """`left in (...)` and its kin: `operator` is in, in~, !in or !in~."""

    left: "Expression"
    operator: str
    items: tuple["Expression", ...]
    at: Place


Expression = Literal | Column | Member | Element | Call | Negative | Star | Binary | Membership


@dataclass(frozen=True, slots=True)
class Named:
    """An expression with the column name it was given, or None."""

    name: str | None
    expression: Expression


@dataclass(frozen=True, slots=True)
class SortKey:
    expression: Expression
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True, eq=False)
class Where:
    predicate: Expression


@dataclass(frozen=True, slots=True, eq=False)
class Extend:
    columns: tuple[Named, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Project:
    columns: tuple[Named, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    """project-away, project-keep and project-reorder: a name may hold stars."""

    operator: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Rename:
    """Pairs of the new name and the column."""

    columns: tuple[tuple[str, Column], ...]


@dataclass(frozen=True, slots=True)
class Join:
    """`keys`: pairs of a column of the left side and one of the right."""

    kind: str | None
    right: "Query"
    keys: tuple[tuple[Column, Column], ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Union:
    kind: str | None
    legs: tuple["Query", ...]
    at: Place


@dataclass(frozen=True, slots=True, eq=False)
class Summarize:
    aggregates: tuple[Named, ...]
    keys: tuple[Named, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """Without columns: all of them."""

    columns: tuple[Named, ...]
    at: Place


@dataclass(frozen=True, slots=True, eq=False)
class Sort:
    keys: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Take:
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Expand:
    """mv-expand: one row per element. `type`: that of to typeof(); `limit`: rows per row."""

    column: Named
    type: str | None
    limit: int | None
    at: Place


@dataclass(frozen=True, slots=True)
class Capture:
    """A column of parse."""

    name: str
    type: str
    at: Place


@dataclass(frozen=True, slots=True, eq=False)
class Parse:
    """`pattern`: texts to find, columns for what lies between them, stars for what is skipped."""

    text: Expression
    pattern: tuple[Literal | Capture | Star, ...]
    at: Place


_OfRows = Where | Extend | Project | Select | Rename | Expand | Parse
OfOneTable = _OfRows | Summarize | Distinct | Sort | Take | Count
Operator = OfOneTable | Join | Union


@dataclass(frozen=True, slots=True)
class Query:
    """Where the rows come from, and the operators that are applied to them in order.

    `source`: a table, a query in brackets, or None, which is the default table, or nothing before a union.
    """

    source: "str | Query | None"
    operators: tuple[Operator, ...]
    at: Place
