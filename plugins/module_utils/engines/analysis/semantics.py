# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Types of a condition, against the type of the value that has just been measured (checker/ of expr-lang 1.15.5).

Everything is checked before anything runs, but for the arguments of a function that is known only then: those are
left without a type, as Argo leaves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from . import durations, functions, gotypes, operators, tree
from .gotypes import (
    ANY,
    ARRAY,
    BOOL,
    FLOAT,
    INT,
    OBJECT,
    MaybeType,
    Type,
    assignable,
    comparable,
    is_any,
    is_bool,
    is_integer,
    is_list,
    is_map,
    is_number,
    is_string,
    kind,
    shown,
)
from .lexer import ExpressionError, NotSupportedError, error_at
from .tree import Node, Visit

_LITERALS: dict[type, Type] = {bool: BOOL, int: INT, float: FLOAT, bytes: gotypes.STRING}
_LOGICAL = frozenset(["and", "&&", "or", "||"])
_ORDER = frozenset(["<", ">", "<=", ">="])
_WORDS = frozenset(["contains", "startsWith", "endsWith"])
# What a loop gives, where it is always of one type.
_LOOP_TYPES = {
    "all": BOOL,
    "none": BOOL,
    "any": BOOL,
    "one": BOOL,
    "count": INT,
    "findIndex": INT,
    "findLastIndex": INT,
    "groupBy": gotypes.GROUPS,
}
# Loops whose closure may give anything.
_MAPPINGS = frozenset(["map", "groupBy", "reduce"])
_COUNTERS: dict[str, dict[str, Type]] = {"map": {"index": INT}, "reduce": {"index": INT, "acc": ANY}}


# What is known of a node beside its type: the builtin that it names, or the type of all elements of a list.
_Info = Union[functions.Builtin, Type, None]
_Checked = tuple[MaybeType, _Info]


def check(root: Node, source: str, result_type: MaybeType) -> MaybeType:
    """The type of a condition; every node gets its own. Raises ExpressionError, NotSupportedError."""
    checker = _Checker(source, result_type)
    checked: _Checked = tree.walk(checker.visit, root, checker.note)
    return checked[0]


class _Checker:
    def __init__(self, source: str, result_type: MaybeType) -> None:
        self.source = source
        self.names: dict[str, MaybeType] = {name: helper.type for name, helper in functions.HELPERS.items()}
        self.names[functions.RESULT] = result_type
        self.loops: list[tuple[MaybeType, dict[str, Type]]] = []
        self.variables: dict[str, _Checked] = {}
        self.visits: dict[type, Any] = {
            tree.Nil: lambda node: (None, None),
            tree.Literal: lambda node: (_LITERALS[type(node.value)], None),
            tree.Name: self.name,
            tree.Unary: self.unary,
            tree.Binary: self.binary,
            tree.Chain: self.chain,
            tree.Member: self.member,
            tree.Cut: self.cut,
            tree.Call: self.call,
            tree.Builtin: self.builtin,
            tree.Closure: self.closure,
            tree.Pointer: self.pointer,
            tree.Let: self.let,
            tree.Conditional: self.conditional,
            tree.ListOf: self.list_of,
            tree.MapOf: self.map_of,
        }

    def visit(self, node: Node) -> Any:
        return self.visits[type(node)](node)

    @staticmethod
    def note(node: Node, checked: _Checked) -> None:
        node.type = checked[0]

    def error(self, node: Node, reason: str) -> ExpressionError:
        return error_at(self.source, node.at, reason)

    # --- names ----------------------------------------------------------------------------------------------------

    def name(self, node: tree.Name) -> _Checked:
        if node.name in self.variables:
            return self.variables[node.name]
        if node.name == functions.ENVIRONMENT:
            return OBJECT, None
        return self.known(node, node.name, strict=True)

    def known(self, node: Node, name: str, strict: bool) -> _Checked:
        """A name of the language or of Argo's."""
        if name in functions.BUILTINS:
            return gotypes.FUNCTION, functions.BUILTINS[name]
        if name in self.names:
            return self.names[name], None
        if strict:
            raise self.error(node, f"unknown name {name}")
        return ANY, None

    def let(self, node: tree.Let) -> Visit:
        if node.name in self.names or node.name in functions.BUILTINS or node.name in self.variables:
            raise self.error(node, f"cannot redeclare {node.name}")
        self.variables[node.name] = yield node.value
        checked = yield node.node
        del self.variables[node.name]
        return checked

    def pointer(self, node: tree.Pointer) -> _Checked:
        if not self.loops:
            raise self.error(node, "cannot use pointer accessor outside closure")
        collection, counters = self.loops[-1]
        if node.name:
            if node.name in counters:
                return counters[node.name], None
            raise self.error(node, f"unknown pointer #{node.name}")
        return (ANY if collection is None or is_any(collection) else collection.elem), None

    # --- operators ------------------------------------------------------------------------------------------------

    def unary(self, node: tree.Unary) -> Visit:
        type_, _info = yield node.node
        if node.operator in ("!", "not"):
            if is_bool(type_) or is_any(type_):
                return BOOL, None
        elif is_number(type_) or is_any(type_):
            return type_, None
        raise self.error(node, f"invalid operation: {node.operator} (mismatched type {shown(type_)})")

    def binary(self, node: tree.Binary) -> Visit:
        left, _info = yield node.left
        right, info = yield node.right
        operator = node.operator
        if operator == "matches":
            self.pattern(node)
        if operator == "in":
            fits = self.contained(node, left, right, info if isinstance(info, Type) else None)
            type_: MaybeType = BOOL if fits else None
        elif operator == "??":
            return self.coalesced(left, right), None
        else:
            type_ = _operation(operator, left, right)
        if type_ is None:
            types = f"{shown(left)} and {shown(right)}"
            raise self.error(node, f"invalid operation: {operator} (mismatched types {types})")
        return type_, None

    def pattern(self, node: tree.Binary) -> None:
        """Regular expressions need a library; one that is a literal is read beforehand."""
        if operators.RE2_IMPORT_ERROR:
            problem = self.error(node, "matches needs the Python library google-re2")
            raise NotSupportedError(problem.reason, problem.line, problem.column)
        if isinstance(node.right, tree.Literal) and isinstance(node.right.value, bytes):
            try:
                operators.regular_expression(node.right.value)
            except ExpressionError as problem:
                raise self.error(node, problem.reason) from None
            node.pattern = node.right.value

    def contained(self, node: Node, left: MaybeType, right: MaybeType, elem: MaybeType) -> bool:
        if right is not None and is_map(right):
            if left is None or is_any(left) or left is right.key or right.key is ANY:
                return True
            raise self.error(node, f"cannot use {shown(left)} as type {shown(right.key)} in map key")
        if right is not None and is_list(right):
            for wanted in (right.elem, elem):
                if not comparable(left, wanted):
                    raise self.error(node, f"cannot use {shown(left)} as type {shown(wanted)} in array")
            return True
        return is_any(right) or (is_any(left) and is_string(right))

    @staticmethod
    def coalesced(left: MaybeType, right: MaybeType) -> MaybeType:
        if left is None or right is None:
            return right if left is None else left
        return left if assignable(right, left) else ANY

    def conditional(self, node: tree.Conditional) -> Visit:
        condition, _info = yield node.condition
        if not (is_bool(condition) or is_any(condition)):
            raise self.error(node.condition, f"non-bool expression (type {shown(condition)}) used as condition")
        then = condition
        if node.then is not None:
            then, _info = yield node.then
        otherwise, _info = yield node.otherwise
        if then is None or otherwise is None:
            return (otherwise if then is None else then), None
        return (then if assignable(then, otherwise) else ANY), None

    # --- members --------------------------------------------------------------------------------------------------

    def chain(self, node: tree.Chain) -> Visit:
        return (yield node.node)

    def member(self, node: tree.Member) -> Visit:
        base, _info = yield node.node
        index, _info = yield node.index
        name = _literal_text(node.index)
        if isinstance(node.node, tree.Name) and node.node.name == functions.ENVIRONMENT:
            # Behind a `?.` the name need not exist.
            return (ANY, None) if name is None else self.known(node, name, strict=not node.optional)
        if base is None:
            what = "type <nil>[{}] is undefined" if name is None else "type <nil> has no field {}"
            raise self.error(node, what.format(shown(index) if name is None else name))
        if name is not None and base is gotypes.DURATION:
            method = durations.method_type(name)
            if method is not None:
                return method, None
        if is_any(base):
            return ANY, None
        if is_map(base):
            if index is not None and not assignable(index, base.key) and not is_any(index):
                raise self.error(node.index, f"cannot use {shown(index)} to get an element from {base}")
            return base.elem, None
        if is_list(base):
            if not is_integer(index) and not is_any(index):
                reason = f"array elements can only be selected using an integer (got {shown(index)})"
                raise self.error(node.index, reason)
            return base.elem, None
        raise self.error(node, f"type {base}[{shown(index)}] is undefined")

    def cut(self, node: tree.Cut) -> Visit:
        type_, _info = yield node.node
        if kind(type_) not in ("interface", "string", "array", "slice"):
            raise self.error(node, f"cannot slice {shown(type_)}")
        for end in (node.start, node.end):
            if end is not None:
                index, _info = yield end
                if not is_integer(index) and not is_any(index):
                    raise self.error(end, f"non-integer slice index {shown(index)}")
        return type_, None

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(self, node: tree.Call) -> Visit:
        function, info = yield node.callee
        if isinstance(info, functions.Builtin):
            node.function = info
            given = yield from self.arguments(node.arguments)
            return self.checked(node, info, given), None
        name = _called(node.callee)
        if function is None:
            raise self.error(node, f"{name} is nil; cannot call nil as function")
        if is_any(function):
            return ANY, None
        if kind(function) != "func":
            raise self.error(node, f"{function} is not callable")
        if function.variadic:
            # A builtin that has gone through an expression: what it is, nobody knows any more.
            yield from self.arguments(node.arguments)
            return ANY, None
        given = yield from self.arguments(node.arguments)
        wrong = functions.check_arguments(name, function.ins, given)
        if wrong:
            raise self.error(node, wrong)
        for place, (wanted, type_) in enumerate(zip(function.ins, given)):
            if wanted is FLOAT and is_integer(type_):
                node.arguments[place] = with_floats(node.arguments[place])
        return function.out, None

    @staticmethod
    def arguments(nodes: Sequence[Node]) -> Visit:
        given = []
        for node in nodes:
            type_, _info = yield node
            given.append(type_)
        return given

    def checked(self, node: Node, builtin: functions.Builtin, given: functions.Types) -> MaybeType:
        if builtin.name in functions.LEFT_OUT:
            problem = self.error(node, f"{builtin.name} is not supported: conditions are read without a clock")
            raise NotSupportedError(problem.reason, problem.line, problem.column)
        try:
            return builtin.check(given)
        except ExpressionError as problem:
            raise self.error(node, problem.reason) from None

    def builtin(self, node: tree.Builtin) -> Visit:
        if node.name in functions.LOOPS:
            return self.loop(node)
        if node.name == "get":
            return self.get(node)
        return self.function(node)

    def function(self, node: tree.Builtin) -> Visit:
        given = yield from self.arguments(node.arguments)
        return self.checked(node, functions.BUILTINS[node.name], given), None

    def get(self, node: tree.Builtin) -> Visit:
        """The function get; where it takes anything, its second argument is not looked at."""
        if len(node.arguments) != 2:
            raise self.error(node, f"invalid number of arguments (expected 2, got {len(node.arguments)})")
        base, index = node.arguments
        if isinstance(base, tree.Name) and base.name == functions.ENVIRONMENT:
            name = _literal_text(index)
            return (ANY if name is None else self.names.get(name)), None
        type_, _info = yield base
        if is_any(type_):
            return ANY, None
        if not (is_list(type_) or is_map(type_)):
            raise self.error(base, f"type {shown(type_)} does not support indexing")
        given, _info = yield index
        if given is None:
            raise self.error(index, "cannot use nil as an index")
        fits = is_integer(given) if is_list(type_) else assignable(given, type_.key)
        if not fits and not is_any(given):
            raise self.error(index, f"cannot use {given} to get an element from {type_}")
        return type_.elem, None

    # --- loops, lists and maps ------------------------------------------------------------------------------------

    def loop(self, node: tree.Builtin) -> Visit:
        collection, _info = yield node.arguments[0]
        if not is_list(collection) and not is_any(collection):
            reason = f"builtin {node.name} takes only array (got {shown(collection)})"
            raise self.error(node.arguments[0], reason)
        self.loops.append((collection, _COUNTERS.get(node.name, {})))
        closure, _info = yield node.arguments[1]
        self.loops.pop()
        for initial in node.arguments[2:]:
            _checked = yield initial
        out = closure.out
        if node.name not in _MAPPINGS and not is_bool(out) and not is_any(out):
            raise self.error(node.arguments[1], f"predicate should return boolean (got {out})")
        if node.name in _LOOP_TYPES:
            return _LOOP_TYPES[node.name], None
        if node.name == "map":
            return gotypes.slice_of(out), None
        if node.name == "reduce":
            return out, None
        elem = ANY if is_any(collection) else collection.elem
        return (gotypes.slice_of(elem) if node.name == "filter" else elem), None

    def closure(self, node: tree.Closure) -> Visit:
        type_, _info = yield node.node
        if type_ is None:
            raise self.error(node.node, "closure cannot be nil")
        return gotypes.function([ANY], type_), None

    def list_of(self, node: tree.ListOf) -> Visit:
        """A list; of which type all its elements are is remembered, for ``in``."""
        before: MaybeType = None
        alike = True
        for place, each in enumerate(node.nodes):
            type_, _info = yield each
            if place and kind(type_) != kind(before):
                alike = False
            if place and type_ is None:
                alike = False
            before = type_
        return ARRAY, (before if alike else None)

    def map_of(self, node: tree.MapOf) -> Visit:
        for each in node.nodes:
            _checked = yield each
        return OBJECT, None


def _literal_text(node: Node) -> str | None:
    if isinstance(node, tree.Literal) and isinstance(node.value, bytes):
        return node.value.decode()
    return None


def _called(callee: Node) -> str:
    """What a message calls a function."""
    if isinstance(callee, tree.Name):
        return callee.name
    name = _literal_text(callee.index) if isinstance(callee, tree.Member) else None
    return name or "function"


def _operation(operator: str, left: MaybeType, right: MaybeType) -> MaybeType:
    """The type of ``left operator right``, or None when they do not fit (checker.BinaryNode)."""

    def either(*kinds: Any) -> bool:
        """One may be anything, and the other is anything, too, or of these."""
        if is_any(left) and is_any(right):
            return True
        other = right if is_any(left) else left if is_any(right) else None
        return any(fits(other) for fits in kinds)

    numbers = is_number(left) and is_number(right)
    if operator in ("==", "!="):
        return BOOL if comparable(left, right) else None
    if operator in _LOGICAL:
        return BOOL if (is_bool(left) and is_bool(right)) or either(is_bool) else None
    if operator in _ORDER:
        strings = is_string(left) and is_string(right)
        return BOOL if numbers or strings or either(is_number, is_string) else None
    if operator in _WORDS or operator == "matches":
        return BOOL if (is_string(left) and is_string(right)) or either(is_string) else None
    if operator == "..":
        return gotypes.INTS if (is_integer(left) and is_integer(right)) or either(is_integer) else None
    if operator == "%":
        if is_integer(left) and is_integer(right):
            return gotypes.combined(left, right)
        return ANY if either(is_integer) else None
    if operator in ("/", "**", "^"):
        return FLOAT if numbers or either(is_number) else None
    if numbers:
        return gotypes.combined(left, right)
    if operator == "+":
        if is_string(left) and is_string(right):
            return gotypes.STRING
        return ANY if either(is_number, is_string) else None
    return ANY if either(is_number) else None


def with_floats(root: Node) -> Node:
    """An argument with the int literals that Argo finds in it made floats: those under signs and ``+ - *``."""

    def visit(node: Node) -> Any:
        if isinstance(node, tree.Literal) and type(node.value) is int:
            made = tree.Literal(node.at, float(node.value))
            made.type = FLOAT
            return made
        if isinstance(node, tree.Unary) or (isinstance(node, tree.Binary) and node.operator in ("+", "-", "*")):
            return children(node)
        return node

    def children(node: Any) -> Visit:
        for slot in node.CHILDREN:
            setattr(node, slot, (yield getattr(node, slot)))
        return node

    new: Node = tree.walk(visit, root)
    return new
