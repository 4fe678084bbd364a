# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tree of a condition (ast/node.go of expr-lang 1.15.5), and the way through it.

A chain of operators makes a tree as deep as the condition is long: nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Generator
from types import GeneratorType
from typing import Any, Callable

from .gotypes import MaybeType


class Node:
    """One node: ``at`` is its offset in the source, ``type`` what the checker found (None: nothing, or nil)."""

    __slots__ = ("at", "type")
    # The slots that hold nodes, or lists of them, in the order they are visited in.
    CHILDREN: tuple[str, ...] = ()

    def __init__(self, at: int) -> None:
        self.at = at
        self.type: MaybeType = None


class Nil(Node):
    """``nil``."""

    __slots__ = ()


class Name(Node):
    """A name that is not called."""

    __slots__ = ("name",)

    def __init__(self, at: int, name: str) -> None:
        super().__init__(at)
        self.name = name


class Literal(Node):
    """An int, float, bool or string (bytes) of the source, or one that folding made of them."""

    __slots__ = ("value",)

    def __init__(self, at: int, value: Any) -> None:
        super().__init__(at)
        self.value = value


class Constant(Node):
    """A list or a map that is known beforehand."""

    __slots__ = ("value",)

    def __init__(self, at: int, value: Any) -> None:
        super().__init__(at)
        self.value = value


class ConstantRange(Node):
    """A list of ints that is known beforehand; made when it is needed."""

    __slots__ = ("values",)

    def __init__(self, at: int, values: range) -> None:
        super().__init__(at)
        self.values = values


class Unary(Node):
    """A sign, ``!`` or ``not``."""

    __slots__ = ("node", "operator")
    CHILDREN = ("node",)

    def __init__(self, at: int, operator: str, node: Node) -> None:
        super().__init__(at)
        self.operator = operator
        self.node = node


class Binary(Node):
    """Two operands; ``pattern`` is the expression of ``matches`` where it is a literal."""

    __slots__ = ("left", "operator", "pattern", "right")
    CHILDREN = ("left", "right")

    def __init__(self, at: int, operator: str, left: Node, right: Node) -> None:
        super().__init__(at)
        self.operator = operator
        self.left = left
        self.right = right
        self.pattern: bytes | None = None


class InRange(Node):
    """``left in first..last`` of ints that are known."""

    __slots__ = ("first", "last", "left")
    CHILDREN = ("left",)

    def __init__(self, at: int, left: Node, first: int, last: int) -> None:
        super().__init__(at)
        self.left = left
        self.first = first
        self.last = last


class Chain(Node):
    """Members behind a ``?.``: all of it is nil where it meets nil."""

    __slots__ = ("node",)
    CHILDREN = ("node",)

    def __init__(self, at: int, node: Node) -> None:
        super().__init__(at)
        self.node = node


class Member(Node):
    """``node.name`` or ``node[index]``."""

    __slots__ = ("index", "node", "optional")
    CHILDREN = ("node", "index")

    def __init__(self, at: int, node: Node, index: Node, optional: bool = False) -> None:
        super().__init__(at)
        self.node = node
        self.index = index
        self.optional = optional


class Cut(Node):
    """``node[start:end]``."""

    __slots__ = ("end", "node", "start")
    CHILDREN = ("node", "start", "end")

    def __init__(self, at: int, node: Node, start: Node | None, end: Node | None) -> None:
        super().__init__(at)
        self.node = node
        self.start = start
        self.end = end


class Call(Node):
    """A call of what is no builtin by its name; ``function`` is the builtin that the checker found nevertheless."""

    __slots__ = ("arguments", "callee", "function")
    CHILDREN = ("callee", "arguments")

    def __init__(self, at: int, callee: Node, arguments: list[Node]) -> None:
        super().__init__(at)
        self.callee = callee
        self.arguments = arguments
        self.function: Any = None


class Builtin(Node):
    """A call of a builtin, with a closure as its second argument if it is a loop.

    Folding gives loops a ``mapped`` expression, and ``throws`` where an index would have been out of range.
    """

    __slots__ = ("arguments", "mapped", "name", "throws")
    CHILDREN = ("arguments",)

    def __init__(
        self, at: int, name: str, arguments: list[Node], mapped: Node | None = None, throws: bool = False
    ) -> None:
        super().__init__(at)
        self.name = name
        self.arguments = arguments
        self.mapped = mapped
        self.throws = throws


class Closure(Node):
    """What a loop does with each element."""

    __slots__ = ("node",)
    CHILDREN = ("node",)

    def __init__(self, at: int, node: Node) -> None:
        super().__init__(at)
        self.node = node


class Pointer(Node):
    """``#``, ``#index`` or ``#acc``."""

    __slots__ = ("name",)

    def __init__(self, at: int, name: str) -> None:
        super().__init__(at)
        self.name = name


class Let(Node):
    """``let name = value; node``."""

    __slots__ = ("name", "node", "value")
    CHILDREN = ("value", "node")

    def __init__(self, at: int, name: str, value: Node, node: Node) -> None:
        super().__init__(at)
        self.name = name
        self.value = value
        self.node = node


class Conditional(Node):
    """``condition ? then : otherwise``; without ``then`` (``?:``) it is the condition again."""

    __slots__ = ("condition", "otherwise", "then")
    CHILDREN = ("condition", "then", "otherwise")

    def __init__(self, at: int, condition: Node, then: Node | None, otherwise: Node) -> None:
        super().__init__(at)
        self.condition = condition
        self.then = then
        self.otherwise = otherwise


class ListOf(Node):
    """``[…]``."""

    __slots__ = ("nodes",)
    CHILDREN = ("nodes",)

    def __init__(self, at: int, nodes: list[Node]) -> None:
        super().__init__(at)
        self.nodes = nodes


class MapOf(Node):
    """``{…}``: keys and values in turn."""

    __slots__ = ("nodes",)
    CHILDREN = ("nodes",)

    def __init__(self, at: int, nodes: list[Node]) -> None:
        super().__init__(at)
        self.nodes = nodes


# A visitor answers at once, or is a generator that yields a child to be given the answer about it.
Visit = Generator[Node, Any, Any]


def walk(
    visit: Callable[[Node], Any], root: Node, note: Callable[[Node, Any], None] = lambda node, answer: None
) -> Any:
    """``visit(root)``, where a visit may yield a child for the answer to it: recursion without the stack.

    ``note`` is told each node and the answer to it.
    """
    waiting: list[tuple[Node, Visit]] = []
    node = root
    answer = visit(root)
    while True:
        if isinstance(answer, GeneratorType):
            waiting.append((node, answer))
            answer = None
        else:
            note(node, answer)
            if not waiting:
                return answer
        node, asking = waiting[-1]
        try:
            node = asking.send(answer)
        except StopIteration as done:
            waiting.pop()
            answer = done.value
            continue
        answer = visit(node)


def rewritten(root: Node, rewrite: Callable[[Node], Node]) -> Node:
    """The tree with each node replaced by what ``rewrite`` makes of it, children first (ast.Walk of expr-lang)."""

    def visit(node: Node) -> Any:
        return children(node) if node.CHILDREN else rewrite(node)

    def children(node: Node) -> Visit:
        for slot in node.CHILDREN:
            child = getattr(node, slot)
            if isinstance(child, list):
                for place, each in enumerate(child):
                    child[place] = yield each
            elif child is not None:
                setattr(node, slot, (yield child))
        return rewrite(node)

    new: Node = walk(visit, root)
    return new
