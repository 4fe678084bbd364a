# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads Argo's condition language by precedence climbing (parser/parser.go of expr-lang 1.15.5).

The parser knows the shape of the language, the builder it drives knows what the pieces mean. What
it does not read yet raises NotSupportedError at the token where it starts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .lexer import BRACKET, END, NAME, NUMBER, OPERATOR, STRING, Token, tokenize
from .semantics import LATER_LOOPS, LOOPS, Builder, Node, constant

# Argo's own parser has no limit; this one recurses, and must not run into the interpreter's.
MAX_DEPTH = 100

_UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}


class _Operator(NamedTuple):
    precedence: int
    right: bool = False
    supported: bool = True


_BINARY = {
    "|": _Operator(0, supported=False),
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
    "in": _Operator(20, supported=False),
    "matches": _Operator(20, supported=False),
    "contains": _Operator(20, supported=False),
    "startsWith": _Operator(20, supported=False),
    "endsWith": _Operator(20, supported=False),
    "..": _Operator(25, supported=False),
    "+": _Operator(30),
    "-": _Operator(30),
    "*": _Operator(60),
    "/": _Operator(60),
    "%": _Operator(60),
    "**": _Operator(100, right=True),
    "^": _Operator(100, right=True),
    "??": _Operator(500, supported=False),
}
_KEYWORDS = {"true": True, "false": False, "nil": None}
_MAX_INT = 2**63 - 1


def parse(source: str, result_type: str) -> Node:
    """Compile ``source`` against the type of the result. Raises ExpressionError."""
    return _Parser(source, result_type).parse()


class _Parser:
    def __init__(self, source: str, result_type: str) -> None:
        self.tokens = tokenize(source)
        self.place = 0
        self.current = self.tokens[0]
        self.build = Builder(source, result_type)
        self.depth = 0

    def parse(self) -> Node:
        node = self.expression()
        if self.current.kind != END:
            raise self.unexpected()
        return node

    def unexpected(self) -> Exception:
        return self.build.error(self.current, f"unexpected token {self.current}")

    def advance(self) -> Token:
        """Step over the current token and return it."""
        passed = self.current
        self.place += 1
        if self.place >= len(self.tokens):
            raise self.build.error(passed, "unexpected end of expression")
        self.current = self.tokens[self.place]
        return passed

    def at(self, kind: str, text: str) -> bool:
        return self.current.is_(kind, text)

    def expect(self, kind: str, text: str) -> Token:
        if not self.at(kind, text):
            raise self.unexpected()
        return self.advance()

    def expression(self, precedence: int = 0) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.build.error(self.current, f"nested more than {MAX_DEPTH} deep")
        if precedence == 0 and self.at(OPERATOR, "let"):
            raise self.build.not_supported(self.current, "let")
        node = self.operations(self.primary(), precedence)
        if precedence == 0:
            node = self.conditional(node)
        self.depth -= 1
        return node

    def operations(self, left: Node, precedence: int) -> Node:
        while self.current.kind == OPERATOR:
            negation = None
            if self.current.text == "not":
                # `a not > b`. When nothing fitting follows, the `not` stays swallowed, as in Argo.
                negation = self.advance()
            token = self.current
            rule = _BINARY.get(token.text)
            if rule is None or rule.precedence < precedence:
                break
            if not rule.supported:
                raise self.build.not_supported(token, f"operator {token.text}")
            self.advance()
            right = self.expression(rule.precedence if rule.right else rule.precedence + 1)
            left = self.build.binary(token, left, right)
            if negation:
                left = self.build.unary(negation, left)
        return left

    def conditional(self, node: Node) -> Node:
        while self.at(OPERATOR, "?"):
            token = self.advance()
            then = None if self.at(OPERATOR, ":") else self.expression()
            self.expect(OPERATOR, ":")
            node = self.build.conditional(token, node, then, self.expression())
        return node

    def primary(self) -> Node:
        token = self.current
        if token.kind == OPERATOR:
            if token.text in _UNARY:
                self.advance()
                node = self.build.unary(token, self.expression(_UNARY[token.text]))
                return self.postfix(node)
            if token.text in ("#", "."):
                return self.postfix(self.pointer(token))
        if self.at(BRACKET, "("):
            self.advance()
            node = self.expression()
            self.expect(BRACKET, ")")
            return self.postfix(node)
        return self.secondary(token)

    def pointer(self, token: Token) -> Node:
        if not self.build.in_loop:
            raise self.build.error(token, "cannot use pointer accessor outside closure")
        if token.text == "#":
            self.advance()
            if self.current.kind == NAME:
                raise self.build.error(token, f"unknown pointer #{self.current.text}")
        return self.build.pointer(token)

    def secondary(self, token: Token) -> Node:
        if token.kind == NUMBER:
            self.advance()
            return constant(self.number(token), literal=True)
        if token.kind == STRING:
            self.advance()
            return constant(token.text)
        if token.kind == NAME:
            self.advance()
            if token.text in _KEYWORDS:
                return constant(_KEYWORDS[token.text])
            return self.postfix(self.call(token) if self.at(BRACKET, "(") else self.build.name(token))
        if token.is_(BRACKET, "[") or token.is_(BRACKET, "{"):
            raise self.build.not_supported(token, "a list" if token.text == "[" else "a map")
        raise self.unexpected()

    def number(self, token: Token) -> int | float:
        text = token.text.replace("_", "")
        if "x" in text:
            if not re.fullmatch("0x[0-9a-fA-F]+", text):
                raise self.build.error(token, f"invalid hex literal: {token.text}")
            value = int(text, 16)
        elif set(".eE") & set(text):
            # Python reads every float that Go reads, but for its words and hexadecimal ones.
            if not re.fullmatch(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
                raise self.build.error(token, f"invalid float literal: {token.text}")
            number = float(text)
            if number == float("inf"):
                raise self.build.error(token, f"invalid float literal: {token.text}: value out of range")
            return number
        elif text.isdecimal() and len(text.lstrip("0")) < 20:
            value = int(text)
        else:
            raise self.build.error(token, f"invalid integer literal: {token.text}")
        if value > _MAX_INT:
            raise self.build.error(token, f"integer literal is too large: {token.text}")
        return value

    def call(self, token: Token) -> Node:
        if token.text in LATER_LOOPS:
            raise self.build.not_supported(token, token.text)
        if token.text in LOOPS:
            return self.loop(token)
        return self.build.call(token, self.arguments())

    def loop(self, token: Token) -> Node:
        self.expect(BRACKET, "(")
        collection = self.expression()
        self.expect(OPERATOR, ",")
        self.build.open_loop(token, collection)
        braces = self.at(BRACKET, "{")
        if braces:
            self.advance()
        predicate = self.expression()
        if braces:
            self.expect(BRACKET, "}")
        node = self.build.close_loop(token, collection, predicate)
        self.expect(BRACKET, ")")
        return node

    def arguments(self) -> list[Node]:
        self.expect(BRACKET, "(")
        nodes: list[Node] = []
        while not self.at(BRACKET, ")"):
            if nodes:
                self.expect(OPERATOR, ",")
            nodes.append(self.expression())
        self.advance()
        return nodes

    def postfix(self, node: Node) -> Node:
        while True:
            token = self.current
            if token.is_(OPERATOR, ".") or token.is_(OPERATOR, "?."):
                raise self.build.not_supported(token, "member access")
            if not token.is_(BRACKET, "["):
                return node
            self.advance()
            if self.at(OPERATOR, ":"):
                raise self.build.not_supported(token, "a slice")
            index = self.expression()
            if self.at(OPERATOR, ":"):
                raise self.build.not_supported(token, "a slice")
            self.expect(BRACKET, "]")
            node = self.build.index(token, node, index)
