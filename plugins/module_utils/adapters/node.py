# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files and ports of the machine a module runs on."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile

from ..errors import AirgapError


class NodeError(AirgapError):
    """A file of this machine could not be read or written."""


class Node:
    """The machine this process runs on."""

    def exists(self, path: str) -> bool:
        """True when something is at ``path``."""
        return os.path.exists(path)

    def read(self, path: str) -> str | None:
        """The text of a file, None when it is not there."""
        try:
            with open(path, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise NodeError(f"{path} cannot be read: {error}") from error

    def mode(self, path: str) -> str | None:
        """The permissions of a file as ``0644``, None when it is not there."""
        try:
            return f"{stat.S_IMODE(os.stat(path).st_mode):04o}"
        except FileNotFoundError:
            return None
        except OSError as error:
            raise NodeError(f"{path} cannot be looked at: {error.strerror}") from error

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Replace a file as a whole, making its directory when there is none. Nobody sees it with another mode."""
        directory = os.path.dirname(path)
        self.make_directory(directory)
        try:
            handle, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                os.chmod(temporary, mode)
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise NodeError(f"{path} cannot be written: {error.strerror}") from error

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and its parents (these always 0755); one that is there stays as it is."""
        try:
            os.makedirs(path, mode=mode, exist_ok=True)
        except OSError as error:
            raise NodeError(f"{path} cannot be made: {error.strerror}") from error

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens when it is not there."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise NodeError(f"{path} cannot be removed: {error.strerror}") from error

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all that is in it; nothing happens when it is not there."""
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise NodeError(f"{error.filename or path} cannot be removed: {error.strerror}") from error

    def remove_empty(self, path: str) -> None:
        """Remove a directory unless something is in it or mounted on it."""
        try:
            os.rmdir(path)
        except OSError:
            pass

    def size(self, path: str) -> int:
        """Bytes in a file, or in all files under a directory; 0 when it is not there."""
        try:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode):
                return found.st_size
            return sum(self.size(entry.path) for entry in os.scandir(path))
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise NodeError(f"{path} cannot be measured: {error.strerror}") from error

    def port_free(self, port: int) -> bool:
        """True when a TCP port can be bound on all addresses."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # Connections in TIME_WAIT do not keep Docker from the port, so they must not keep us.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                return False
        return True
