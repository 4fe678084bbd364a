# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tokens of Argo's condition language, which is expr-lang 1.15.5 (parser/lexer in its sources)."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

NAME = "Identifier"
NUMBER = "Number"
STRING = "String"
OPERATOR = "Operator"
BRACKET = "Bracket"
END = "EOF"

_DIGITS = frozenset("0123456789")
_NUMBER_DIGITS = {
    "x": frozenset("0123456789abcdefABCDEF_"),
    "o": frozenset("01234567_"),
    "b": frozenset("01_"),
    "": frozenset("0123456789_"),
}
_WORD_OPERATORS = frozenset(["in", "or", "and", "matches", "contains", "startsWith", "endsWith", "let", "not"])
_SPACES = frozenset("\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000") | {
    chr(code) for code in range(0x2000, 0x200B)
}
_SIMPLE_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


class ExpressionError(ValueError):
    """A condition is wrong: ``reason`` says how, ``line`` and ``column`` (from 1) say where."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"{reason} ({line}:{column})" if line else reason)
        self.reason = reason
        self.line = line
        self.column = column


class NotSupportedError(ExpressionError):
    """A condition uses a part of the language that Argo knows and this engine does not: expression.py names them."""


class Token(NamedTuple):
    """One token; ``at`` is its offset in the source."""

    kind: str
    text: str
    at: int

    def is_(self, kind: str, text: str) -> bool:
        """Whether it is this very token."""
        return self.kind == kind and self.text == text

    def __str__(self) -> str:
        return f'{self.kind}("{self.text}")' if self.text else self.kind


def position(source: str, at: int) -> tuple[int, int]:
    """Line and column, both from 1, of an offset."""
    before = source[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1


def error_at(source: str, at: int, reason: str) -> ExpressionError:
    """An ExpressionError that points at an offset of the source."""
    return ExpressionError(reason, *position(source, at))


def tokenize(source: str) -> list[Token]:
    """All tokens of ``source``, the last of them END. Raises ExpressionError."""
    return _Lexer(source).run()


def is_word_character(char: str) -> bool:
    """What Go's IsLetter and IsDigit take, and ``_`` and ``$``."""
    if char.isascii():
        return char.isalnum() or char == "_" or char == "$"
    category = unicodedata.category(char)
    return category[0] == "L" or category == "Nd"


def is_identifier(text: str) -> bool:
    """Whether a word can be the name of a member."""
    return bool(text) and all(map(is_word_character, text)) and unicodedata.category(text[0]) != "Nd"


class _Lexer:
    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.tokens: list[Token] = []

    def run(self) -> list[Token]:
        while self.at < len(self.source):
            self._token(self.source[self.at])
        self.tokens.append(Token(END, "", max(len(self.source) - 1, 0)))
        return self.tokens

    def _token(self, char: str) -> None:
        source, start = self.source, self.at
        if char in _SPACES:
            self.at += 1
        elif char in "'\"":
            self._string(char)
        elif char in _DIGITS or (char == "." and self._peek(1) in _DIGITS):
            self._number()
        elif char == "/" and self._peek(1) == "/":
            newline = source.find("\n", start)
            self.at = len(source) if newline < 0 else newline + 1
        elif char == "/" and self._peek(1) == "*":
            close = source.find("*/", start + 2)
            if close < 0:
                raise self._error("unclosed comment", len(source))
            self.at = close + 2
        elif char in "([{)]}":
            self._emit(BRACKET, 1)
        elif char == "#":
            self._pointer()
        elif char in ",:;%+-^/":
            self._emit(OPERATOR, 1)
        elif char in "&!=*<>":
            self._emit(OPERATOR, 2 if self._peek(1) in ("&", "=", "*") else 1)
        elif char == "|":
            self._emit(OPERATOR, 2 if self._peek(1) == "|" else 1)
        elif char == "?":
            self._emit(OPERATOR, 2 if self._peek(1) in (".", "?") else 1)
        elif char == ".":
            self._emit(OPERATOR, 2 if self._peek(1) == "." else 1)
        elif is_word_character(char):
            length = self._word_length(start)
            self._emit(OPERATOR if source[start : start + length] in _WORD_OPERATORS else NAME, length)
        else:
            raise self._error(f"unrecognized character: U+{ord(char):04X} {char!r}", start)

    def _peek(self, ahead: int) -> str:
        return self.source[self.at + ahead : self.at + ahead + 1]

    def _emit(self, kind: str, length: int, text: str | None = None) -> None:
        start, self.at = self.at, self.at + length
        self.tokens.append(Token(kind, self.source[start : self.at] if text is None else text, start))

    def _error(self, reason: str, at: int) -> ExpressionError:
        return error_at(self.source, at, reason)

    def _word_length(self, start: int) -> int:
        end = start
        while end < len(self.source) and is_word_character(self.source[end]):
            end += 1
        return end - start

    def _pointer(self) -> None:
        """``#`` and the name glued to it: ``#index`` is two tokens, and so is ``#1``."""
        self._emit(OPERATOR, 2 if self._peek(1) == "#" else 1)
        length = self._word_length(self.at)
        if length:
            self._emit(NAME, length)

    def _number(self) -> None:
        source, start = self.source, self.at
        end = start
        digits = _NUMBER_DIGITS[""]
        if source[end] == "0":
            end += 1
            base = source[end : end + 1].lower()
            if base in ("x", "o", "b"):
                digits = _NUMBER_DIGITS[base]
                end += 1
        end = self._run_of(end, digits)
        if source[end : end + 2] == "..":
            self._emit(NUMBER, end - start)
            return
        if source[end : end + 1] == ".":
            end = self._run_of(end + 1, digits)
        if source[end : end + 1] in ("e", "E"):
            end += 1
            if source[end : end + 1] in ("+", "-"):
                end += 1
            end = self._run_of(end, digits)
        if end < len(source) and is_word_character(source[end]):
            raise self._error(f'bad number syntax: "{source[start : end + 1]}"', end)
        self._emit(NUMBER, end - start)

    def _run_of(self, end: int, digits: frozenset[str]) -> int:
        while end < len(self.source) and self.source[end] in digits:
            end += 1
        return end

    def _string(self, quote: str) -> None:
        source, start = self.source, self.at
        text: list[str] = []
        end = start + 1
        while True:
            char = source[end : end + 1]
            if char in ("", "\n"):
                raise self._error("literal not terminated", end)
            end += 1
            if char == quote:
                break
            if char != "\\":
                text.append("\n" if char == "\r" else char)
                continue
            end = self._escape(end, quote, text)
        self._emit(STRING, end - start, "".join(text))

    def _escape(self, end: int, quote: str, text: list[str]) -> int:
        source = self.source
        char = source[end : end + 1]
        if char == quote:
            text.append(quote)
            return end + 1
        if char in _SIMPLE_ESCAPES:
            text.append(_SIMPLE_ESCAPES[char])
            return end + 1
        if char in _HEX_ESCAPES:
            digits, base, end = source[end + 1 : end + 1 + _HEX_ESCAPES[char]], 16, end + 1
            wanted = _HEX_ESCAPES[char]
        else:
            digits, base, wanted = source[end : end + 3], 8, 3
            if digits[:1] not in ("0", "1", "2", "3"):
                raise self._error("invalid char escape", end)
        alphabet = "01234567" if base == 8 else "0123456789abcdefABCDEF"
        if len(digits) != wanted or any(digit not in alphabet for digit in digits):
            raise self._error("invalid char escape", end)
        code = int(digits, base)
        if code > 0x10FFFF:
            raise self._error("unable to unescape string", end)
        # Go writes a lone surrogate as the replacement character.
        text.append("\ufffd" if 0xD800 <= code <= 0xDFFF else chr(code))
        return end + wanted
