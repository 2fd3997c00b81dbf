"""PromQL, taken apart."""

from __future__ import annotations

from collections.abc import Iterator

import promql_parser
from promql_parser import AggregateExpr, BinaryExpr, Call, Expr, ParenExpr, VectorSelector

COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}


def selectors(expression: str) -> list[VectorSelector]:
    """Every series that is selected."""
    return [part for part in _parts(promql_parser.parse(expression)) if isinstance(part, VectorSelector)]


def grouped_by(expression: str) -> set[str]:
    """The labels that it aggregates by, or matches on."""
    found: set[str] = set()
    for part in _parts(promql_parser.parse(expression)):
        modifier = getattr(part, "modifier", None)
        if isinstance(part, AggregateExpr) and modifier is not None:
            found |= set(modifier.labels)
        if isinstance(part, BinaryExpr) and modifier is not None:
            found |= set(modifier.matching.labels if modifier.matching is not None else ())
            found |= set(modifier.group_labels or ())
    return found


def made_labels(expression: str) -> set[str]:
    """The labels that it makes."""
    calls = [part for part in _parts(promql_parser.parse(expression)) if isinstance(part, Call)]
    return {str(call.args[1].val) for call in calls if call.func.name == "label_replace"}


def _parts(expression: object) -> Iterator[object]:
    """The expression and everything in it."""
    yield expression
    for name in ("lhs", "rhs", "expr", "vector_selector", "vs", "param"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from _parts(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from _parts(inner)


def judged(expression: str) -> list[str]:
    """What of an alert's expression must return data while nothing is wrong.

    The expression with each of its last comparisons as a number, 0 or 1, so that whatever is compared is there: first
    as a whole, so that the sides of `and` have a series in common, then what each side of `and`, `or` and `unless` is
    made of. `absent(x)` asks for x.
    """
    parsed = promql_parser.parse(expression)
    return list(dict.fromkeys([_without_comparison(parsed), *_sides(parsed)]))


def _sides(expression: Expr) -> Iterator[str]:
    if isinstance(expression, ParenExpr):
        yield from _sides(expression.expr)
    elif isinstance(expression, BinaryExpr) and str(expression.op) in ("and", "or", "unless"):
        yield from _sides(expression.lhs)
        yield from _sides(expression.rhs)
    else:
        yield _without_comparison(expression)


def _without_comparison(expression: Expr) -> str:
    if isinstance(expression, ParenExpr):
        return f"({_without_comparison(expression.expr)})"
    if isinstance(expression, Call) and expression.func.name == "absent":
        return str(expression.args[0].prettify())
    if not isinstance(expression, BinaryExpr):
        return expression.prettify()
    operator = str(expression.op)
    if operator == "unless":
        return _without_comparison(expression.lhs)
    if operator in ("and", "or"):
        left, right = _without_comparison(expression.lhs), _without_comparison(expression.rhs)
        return f"{left} {operator}{_matching(expression)} {right}"
    if operator in COMPARISONS:
        return f"{expression.lhs.prettify()} {operator} bool{_matching(expression)} {expression.rhs.prettify()}"
    return expression.prettify()


def _matching(expression: BinaryExpr) -> str:
    """Its `on (...) group_left (...)`, with a space before it."""
    modifier = expression.modifier
    if modifier is None:
        return ""
    text = ""
    if modifier.matching is not None:
        text += f" {_words(modifier.matching.type)} ({', '.join(modifier.matching.labels)})"
    if modifier.group_labels is not None:
        side = "group_left" if "ManyToOne" in str(modifier.card) else "group_right"
        text += f" {side} ({', '.join(modifier.group_labels)})"
    return text


def _words(kind: object) -> str:
    return "on" if "Include" in str(kind) else "ignoring"
