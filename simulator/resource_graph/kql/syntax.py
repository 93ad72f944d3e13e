"""The tree of a query: frozen nodes. Nothing here knows a table, a type or a function."""

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
class Call:
    function: str
    arguments: tuple["Expression", ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Ago:
    """The time `span` (such as 7d) before now. A timespan is allowed only here and in bin()."""

    span: str
    at: Place


@dataclass(frozen=True, slots=True)
class Bin:
    """`value` rounded down to a multiple of `span`."""

    value: "Expression"
    span: str
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
    items: tuple[Literal, ...]
    at: Place


Expression = Literal | Column | Member | Call | Ago | Bin | Star | Binary | Membership


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


@dataclass(frozen=True, slots=True)
class Where:
    predicate: Expression


@dataclass(frozen=True, slots=True)
class Extend:
    columns: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Project:
    columns: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class ProjectAway:
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Join:
    kind: str | None
    right: "Query"
    keys: tuple[Column, ...]
    at: Place


@dataclass(frozen=True, slots=True)
class Summarize:
    aggregates: tuple[Named, ...]
    keys: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Sort:
    keys: tuple[SortKey, ...]


Operator = Where | Extend | Project | ProjectAway | Join | Summarize | Sort


@dataclass(frozen=True, slots=True)
class Query:
    """A table, and the operators that are applied to its rows in order."""

    table: str
    operators: tuple[Operator, ...]
    at: Place
