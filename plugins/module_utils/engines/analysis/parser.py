# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads Argo's condition language by precedence climbing (parser/parser.go of expr-lang 1.15.5)."""

from __future__ import annotations

import re
from typing import NamedTuple

from . import functions, tree
from .lexer import (
    BRACKET,
    END,
    NAME,
    NUMBER,
    OPERATOR,
    STRING,
    ExpressionError,
    Token,
    error_at,
    is_identifier,
    tokenize,
)
from .tree import Node

# Argo's own parser has no limit; this one recurses, and must not run into the interpreter's.
MAX_DEPTH = 100

_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}


class _Operator(NamedTuple):
    precedence: int
    right: bool = False


_PIPE, _COALESCE = "|", "??"
_BINARY = {
    _PIPE: _Operator(0),
    "or": _Operator(10),
    "||": _Operator(10),
    "and": _Operator(15),
    "&&": _Operator(15),
    "==": _Operator(20),
    "!=": _Operator(20),
    "<": _Operator(20),
    ">": _Operator(20),
    ">=": _Operator(20),
    "<=": _Operator(20),
    "in": _Operator(20),
    "matches": _Operator(20),
    "contains": _Operator(20),
    "startsWith": _Operator(20),
    "endsWith": _Operator(20),
    "..": _Operator(25),
    "+": _Operator(30),
    "-": _Operator(30),
    "*": _Operator(60),
    "/": _Operator(60),
    "%": _Operator(60),
    "**": _Operator(100, right=True),
    "^": _Operator(100, right=True),
    _COALESCE: _Operator(500),
}
_KEYWORDS = {"true": True, "false": False}
_MAX_INT = 2**63 - 1


def parse(source: str) -> Node:
    """The tree of a condition. Raises ExpressionError."""
    return _Parser(source).parse()


class _Parser:
    def __init__(self, source: str) -> None:
        self.source = source
        self.tokens = tokenize(source)
        self.place = 0
        self.current = self.tokens[0]
        self.depth = 0
        self.closures = 0

    def parse(self) -> Node:
        node = self.expression()
        if self.current.kind != END:
            raise self.unexpected()
        return node

    def error(self, token: Token, reason: str) -> ExpressionError:
        return error_at(self.source, token.at, reason)

    def unexpected(self) -> ExpressionError:
        return self.error(self.current, f"unexpected token {self.current}")

    def advance(self) -> Token:
        """Step over the current token and return it."""
        passed = self.current
        self.place += 1
        if self.place >= len(self.tokens):
            raise self.error(passed, "unexpected end of expression")
        self.current = self.tokens[self.place]
        return passed

    def at(self, kind: str, text: str) -> bool:
        return self.current.is_(kind, text)

    def take(self, kind: str, text: str) -> bool:
        """Step over the current token if it is this one."""
        found = self.current.is_(kind, text)
        if found:
            self.advance()
        return found

    def expect(self, kind: str, text: str) -> Token:
        if not self.at(kind, text):
            raise self.unexpected()
        return self.advance()

    def name(self) -> Token:
        if self.current.kind != NAME:
            raise self.unexpected()
        return self.advance()

    # --- operators ------------------------------------------------------------------------------------------------

    def expression(self, precedence: int = 0) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(self.current, f"nested more than {MAX_DEPTH} deep")
        if precedence == 0 and self.at(OPERATOR, "let"):
            node = self.declaration()
        else:
            node = self.operations(self.primary(), precedence)
            if precedence == 0:
                node = self.conditional(node)
        self.depth -= 1
        return node

    def operations(self, left: Node, precedence: int) -> Node:
        before = ""
        while self.current.kind == OPERATOR:
            negation = None
            if self.current.text == "not":
                # `a not in b`. When nothing fitting follows, the `not` stays swallowed, as in Argo.
                self.advance()
                negation = self.current
            token = self.current
            rule = _BINARY.get(token.text)
            if rule is None or rule.precedence < precedence:
                break
            self.advance()
            if token.text == _PIPE:
                left = self.pipe(left)
            else:
                if before == _COALESCE != token.text:
                    reason = f"Operator ({token.text}) and coalesce expressions (??) cannot be mixed."
                    raise self.error(token, f"{reason} Wrap either by parentheses.")
                right = self.expression(rule.precedence if rule.right else rule.precedence + 1)
                left = tree.Binary(token.at, token.text, left, right)
                if negation:
                    left = tree.Unary(negation.at, "not", left)
            before = token.text
        return left

    def declaration(self) -> Node:
        self.advance()
        name = self.name()
        self.expect(OPERATOR, "=")
        value = self.expression()
        self.expect(OPERATOR, ";")
        return tree.Let(name.at, name.text, value, self.expression())

    def conditional(self, node: Node) -> Node:
        while self.at(OPERATOR, "?"):
            token = self.advance()
            then = None if self.at(OPERATOR, ":") else self.expression()
            self.expect(OPERATOR, ":")
            node = tree.Conditional(token.at, node, then, self.expression())
        return node

    def pipe(self, left: Node) -> Node:
        """The call behind a ``|``, with what stands before it as its first argument."""
        token = self.name()
        if token.text in functions.LOOPS:
            self.expect(BRACKET, "(")
            return self.loop(token, left)
        arguments = [left, *self.arguments()]
        if token.text in functions.BUILTINS:
            return tree.Builtin(token.at, token.text, arguments)
        return tree.Call(token.at, tree.Name(token.at, token.text), arguments)

    # --- operands -------------------------------------------------------------------------------------------------

    def primary(self) -> Node:
        token = self.current
        if token.kind == OPERATOR:
            if token.text in _UNARY:
                self.advance()
                operand = self.expression(_UNARY[token.text])
                return self.postfix(tree.Unary(token.at, token.text, operand))
            if token.text in ("#", "."):
                return self.postfix(self.pointer(token))
        if self.take(BRACKET, "("):
            node = self.expression()
            self.expect(BRACKET, ")")
            return self.postfix(node)
        return self.secondary(token)

    def pointer(self, token: Token) -> Node:
        """``#``; before a ``.`` it may be left out."""
        if not self.closures:
            raise self.error(token, "cannot use pointer accessor outside closure")
        name = ""
        if token.text == "#":
            self.advance()
            if self.current.kind == NAME:
                name = self.advance().text
        return tree.Pointer(token.at, name)

    def secondary(self, token: Token) -> Node:
        if token.kind == NUMBER:
            self.advance()
            return tree.Literal(token.at, self.number(token))
        if token.kind == STRING:
            self.advance()
            return tree.Literal(token.at, token.text.encode())
        if token.kind == NAME:
            self.advance()
            if token.text in _KEYWORDS:
                return tree.Literal(token.at, _KEYWORDS[token.text])
            if token.text == "nil":
                return tree.Nil(token.at)
            return self.postfix(self.call(token) if self.at(BRACKET, "(") else tree.Name(token.at, token.text))
        if self.at(BRACKET, "["):
            return self.postfix(self.list_of(token))
        if self.at(BRACKET, "{"):
            return self.postfix(self.map_of(token))
        raise self.unexpected()

    def number(self, token: Token) -> int | float:
        text = token.text.replace("_", "")
        if "x" in text:
            if not re.fullmatch("0x[0-9a-fA-F]+", text):
                raise self.error(token, f"invalid hex literal: {token.text}")
            value = int(text, 16)
        elif set(".eE") & set(text):
            # Python reads every float that Go reads, but for its words and hexadecimal ones.
            if not re.fullmatch(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
                raise self.error(token, f"invalid float literal: {token.text}")
            number = float(text)
            if number == float("inf"):
                raise self.error(token, f"invalid float literal: {token.text}: value out of range")
            return number
        elif text.isdecimal() and len(text.lstrip("0")) < 20:
            value = int(text)
        else:
            raise self.error(token, f"invalid integer literal: {token.text}")
        if value > _MAX_INT:
            raise self.error(token, f"integer literal is too large: {token.text}")
        return value

    def call(self, token: Token) -> Node:
        if token.text in functions.LOOPS:
            self.expect(BRACKET, "(")
            collection = self.expression()
            self.expect(OPERATOR, ",")
            return self.loop(token, collection)
        arguments = self.arguments()
        if token.text in functions.BUILTINS:
            return tree.Builtin(token.at, token.text, arguments)
        return tree.Call(token.at, tree.Name(token.at, token.text), arguments)

    def loop(self, token: Token, collection: Node) -> Node:
        """A loop from its closure on; ``reduce`` may have a third argument."""
        arguments = [collection, self.closure()]
        if token.text == "reduce" and self.take(OPERATOR, ","):
            arguments.append(self.expression())
        self.expect(BRACKET, ")")
        return tree.Builtin(token.at, token.text, arguments)

    def closure(self) -> Node:
        start = self.current
        braces = self.take(BRACKET, "{")
        self.closures += 1
        node = self.expression()
        self.closures -= 1
        if braces:
            self.expect(BRACKET, "}")
        return tree.Closure(start.at, node)

    def arguments(self) -> list[Node]:
        self.expect(BRACKET, "(")
        nodes: list[Node] = []
        while not self.at(BRACKET, ")"):
            if nodes:
                self.expect(OPERATOR, ",")
            nodes.append(self.expression())
        self.advance()
        return nodes

    def list_of(self, token: Token) -> Node:
        self.advance()
        nodes: list[Node] = []
        while not self.at(BRACKET, "]"):
            if nodes:
                self.expect(OPERATOR, ",")
                if self.at(BRACKET, "]"):
                    break
            nodes.append(self.expression())
        self.advance()
        return tree.ListOf(token.at, nodes)

    def map_of(self, token: Token) -> Node:
        self.advance()
        nodes: list[Node] = []
        while not self.at(BRACKET, "}"):
            if nodes:
                self.expect(OPERATOR, ",")
                if self.at(BRACKET, "}"):
                    break
            nodes.append(self.key(token))
            self.expect(OPERATOR, ":")
            nodes.append(self.expression())
        self.advance()
        return tree.MapOf(token.at, nodes)

    def key(self, token: Token) -> Node:
        """The key of a map: a number, a string, a name (all of them strings), or anything in parentheses."""
        if self.current.kind in (NUMBER, STRING, NAME):
            return tree.Literal(token.at, self.advance().text.encode())
        if self.at(BRACKET, "("):
            return self.expression()
        reason = "a map key must be a quoted string, a number, a identifier, or an expression enclosed in parentheses"
        raise self.error(self.current, f"{reason} (unexpected token {self.current})")

    def postfix(self, node: Node) -> Node:
        while True:
            token = self.current
            if token.is_(OPERATOR, ".") or token.is_(OPERATOR, "?."):
                node = self.member(node, optional=token.text == "?.")
            elif token.is_(BRACKET, "["):
                node = self.index(node)
            else:
                return node

    def member(self, node: Node, optional: bool) -> Node:
        self.advance()
        token = self.advance()
        if token.kind != NAME and not (token.kind == OPERATOR and is_identifier(token.text)):
            raise self.error(self.current, "expected name")
        chained = isinstance(node, tree.Chain)
        if isinstance(node, tree.Chain):
            node = node.node
        property_ = tree.Literal(token.at, token.text.encode())
        node = tree.Member(token.at, node, property_, optional)
        if self.at(BRACKET, "("):
            node = tree.Call(token.at, node, self.arguments())
        return tree.Chain(token.at, node) if chained or optional else node

    def index(self, node: Node) -> Node:
        token = self.advance()
        start = None if self.at(OPERATOR, ":") else self.expression()
        if self.take(OPERATOR, ":"):
            end = None if self.at(BRACKET, "]") else self.expression()
            node = tree.Cut(token.at, node, start, end)
        elif start is not None:
            node = tree.Member(token.at, node, start)
        self.expect(BRACKET, "]")
        return node
