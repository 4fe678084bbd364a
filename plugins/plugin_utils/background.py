# Copyright: the lumen.airgap maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base of actions that run the module of their name as a job of the node and print what it says meanwhile.

Ansible's own way of running a module in the background costs three more starts of Python and some seven more round
trips to the node, for a task that mostly finds nothing to do. Here the one command that runs the module is wrapped in
a shell script that starts it in a session of its own, waits for it a moment, and answers with its output or with what
it has said so far. A quick module costs one round trip, as ever; a slow one costs one more each second. Everything
around that command is left to Ansible: arguments, become, delegation, interpreter, and the reading of the result.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable, NamedTuple

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils.errors import AirgapError
from ..module_utils.options import ABSOLUTE, check_ranges
from ..module_utils.times import Clock, SystemClock
from .streaming import ParentGone, Stream, host_prefix, plain

#: Seconds between two looks at a job, and until the first: what finds nothing to do is soon done. It doubles each time.
TICK = 1.0
FIRST_TICK = 0.2
#: Seconds a job may take at all. A module has deadlines of its own; this is for one that is lost beyond knowing.
LIMIT = 86400.0
#: Seconds for which a node that does not answer is asked again before the task gives up.
PATIENCE = 30.0

# Arguments of the scripts: directory of the job, mark of its answers, file with its lines, first line to print.
# Of the first one also: the command, and "input" when the command reads its input, which must be here before the
# connection ends. It goes through a variable, since a module that is piped in may hold secrets that no disk should.
_START = r"""
(umask 077 && mkdir "$1") || exit
job='(eval "$2") >"$1/out" 2>"$1/err"; echo $? >"$1/ended" && mv "$1/ended" "$1/code"'
if [ "$6" = input ]; then
    input=$(cat)
    printf '%s\n' "$input" | setsid sh -c "$job" job "$1" "$5" >/dev/null 2>&1 &
else
    setsid sh -c "$job" job "$1" "$5" </dev/null >/dev/null 2>&1 &
fi
echo $! >"$1/pid"
tries=0
while [ ! -e "$1/code" ] && [ $tries -lt 50 ]; do
    sleep 0.02
    tries=$((tries + 1))
done
"""

# The process is looked at before the file with its exit code: a job that ends in between is not taken for a lost one.
_LOOK = r"""
state=lost
kill -0 "$(cat "$1/pid")" 2>/dev/null && state=running
[ -e "$1/code" ] && state=$(cat "$1/code")
echo "$2 $state"
tail -n "+$4" "$3" 2>/dev/null
printf '\n%s\n' "$2"
case $state in
    lost | running) ;;
    *) cat "$1/out"; cat "$1/err" >&2; rm -rf "$1" ;;
esac
"""

# Two seconds to end well; then not. A job that has ended is only tidied up.
_END = r"""
if [ ! -e "$1/code" ] && pid=$(cat "$1/pid") && kill -s TERM -- "-$pid"; then
    tries=0
    while kill -0 "$pid" && [ $tries -lt 20 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -s KILL -- "-$pid"
fi 2>/dev/null
rm -rf "$1"
"""


class Interrupted(BaseException):
    """The worker was told to end by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Answer(NamedTuple):
    """What a job's scripts print."""

    #: ``running``, ``lost`` (its process is gone and left no exit code), or the exit code.
    state: str
    lines: list[str]
    #: The module's own output, when it has ended.
    output: str


def parse(stdout: str, mark: str) -> Answer | None:
    """What a script printed; None when that is not its answer. Whatever a login prints before it is passed over."""
    _before, found, rest = stdout.replace("\r\n", "\n").partition(f"{mark} ")
    state, _end, rest = rest.partition("\n")
    said, ended, output = rest.partition(f"\n{mark}\n")
    if not (found and ended):
        return None
    # Without the last: what follows the last end of a line is the beginning of one that is still being written.
    return Answer(state, said.split("\n")[:-1], output)


class Job:
    """One command of a node, in a session of its own there, followed from here."""

    def __init__(
        self,
        execute: Callable[..., dict[str, Any]],
        out: Stream,
        clock: Clock,
        directory: str,
        progress_path: str | None,
    ) -> None:
        """``execute`` runs a shell command on the node. Lines come from ``progress_path``, or from the directory."""
        self._execute = execute
        self._out = out
        self._clock = clock
        self._directory = directory
        self._mark = f"job-{secrets.token_hex(8)}"
        self._own_file = progress_path is None
        self.progress_path = progress_path or f"{directory}/progress"
        self._next = 1

    def run(self, command: str, data: bytes | None) -> dict[str, Any]:
        """Run ``command`` with ``data`` as its input, print its lines, and return what ``execute`` would.

        Whatever ends this before the job has ended also ends the job. Raises ``AirgapError`` when the job vanishes.
        """
        try:
            if not self._own_file:
                self._next += self._lines_before()
            return self._follow(command, data)
        except BaseException:
            self._end()
            raise

    def _follow(self, command: str, data: bytes | None) -> dict[str, Any]:
        more = [command] if data is None else [command, "input"]
        result = self._execute(self._script(_START + _LOOK, *more), in_data=data)
        answer = parse(result["stdout"], self._mark)
        if answer is None:
            self._end()
            return result  # It could not be started: Ansible says best what the node has answered instead.
        now = self._clock.monotonic()
        limit, heard, pause = now + LIMIT, now, FIRST_TICK
        while True:
            if answer is not None:
                for line in answer.lines:
                    self._out.line(line)
                self._next += len(answer.lines)
                if answer.state == "lost":
                    raise AirgapError(
                        "The module's process on the node is gone and has left no result: it was killed, or the node "
                        "was started again. What it had done until then stays; run the task again"
                    )
                if answer.state != "running":
                    return {
                        **result,
                        "rc": int(answer.state),
                        "stdout": answer.output,
                        "stdout_lines": answer.output.splitlines(),
                    }
                heard = self._clock.monotonic()
            if self._clock.monotonic() > limit:
                raise AirgapError(f"The module has not ended within {LIMIT / 3600:g} hours and was killed")
            self._out.check()
            self._clock.sleep(pause)
            pause = min(TICK, pause * 2)
            result, answer = self._look(heard + PATIENCE)

    def _look(self, until: float) -> tuple[dict[str, Any], Answer | None]:
        """Ask once; the answer is None when the node did not answer well. After ``until`` that is an error."""
        try:
            result = self._execute(self._script(_LOOK))
        except AnsibleConnectionFailure:
            if self._clock.monotonic() > until:
                raise
            return {}, None
        answer = parse(result["stdout"], self._mark)
        if answer is None and self._clock.monotonic() > until:
            said = (result["stderr"] or result["stdout"]).strip()
            raise AirgapError(f"The node has not said for {PATIENCE:g} s how the module is doing. It answers: {said}")
        return result, answer

    def _lines_before(self) -> int:
        """How many lines of others the file has."""
        counted = self._execute(f"wc -l <{shlex.quote(self.progress_path)} 2>/dev/null")["stdout"].strip()
        return int(counted) if counted.isdigit() else 0

    def _end(self) -> None:
        """End the job if it runs, and remove its directory; as well as that goes."""
        try:
            self._execute(self._script(_END))
        except Exception as error:
            Display().vvv(f"cannot end the module's job in {self._directory}: {error}")

    def _script(self, script: str, *more: str) -> str:
        arguments = [self._directory, self._mark, self.progress_path, str(self._next), *more]
        return shlex.join(["/bin/sh", "-c", script, "job", *arguments])


@contextmanager
def interrupts() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise ``Interrupted``, and have their way when what they interrupt has cleaned up.

    Ansible's own handler ends the worker at once, and nobody would tell the node.
    """

    def interrupt(number: int, _frame: object) -> None:
        for each in previous:
            signal.signal(each, signal.SIG_IGN)  # The first one is enough.
        raise Interrupted(number)

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    again = None
    try:
        for number in previous:
            signal.signal(number, interrupt)
        yield
    except Interrupted as interrupted:
        again = interrupted.number
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if again is not None:
            os.kill(os.getpid(), again)


class BackgroundAction(ActionBase):
    """Base class: an action needs no more than a class of its own that inherits this one.

    The module has the options PROGRESS_OPTIONS and writes its lines with ``progress_to``. What the module returns is
    the result of the task, with nothing added. Without anything to print (check mode, ``quiet``, ``no_log``, or a task
    with ``async``) the module runs as any other.

    The job ends with the task: by its ``timeout``, an interrupted or dead ansible-playbook, an error here. A node that
    cannot be reached at that moment keeps it until it ends by itself; the next run goes on from what it has left.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = True

    clock: Clock = SystemClock()
    _job: Job | None = None

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Called by Ansible."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        quiet = self._task.check_mode or self._task.no_log or boolean(self._task.args.get("quiet", False), strict=False)
        if wrap_async or quiet:
            result.update(self._execute_module(task_vars=task_vars, wrap_async=wrap_async))
            return result
        try:
            result.update(self._run_in_sight(task_vars or {}))
        except AirgapError as error:
            result.update(error.details, failed=True, msg=error.message)
        except ParentGone as error:
            result.update(failed=True, msg=str(error))
        return result

    def _run_in_sight(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        given = plain(self._task.args.get("progress_path"))
        check_ranges({"progress_path": given}, {"progress_path": ABSOLUTE})
        # A name nobody can guess, made with mkdir: where several users write it is ours or it is refused.
        directory = f"{self.get_shell_option('system_tmpdirs')[0]}/lumen-airgap-{secrets.token_hex(8)}"
        out = Stream(Display().display, prefix=host_prefix(task_vars))
        self._job = Job(super()._low_level_execute_command, out, self.clock, directory, given)
        with interrupts():
            result: dict[str, Any] = self._execute_module(
                module_args={**self._task.args, "progress_path": self._job.progress_path}, task_vars=task_vars
            )
        arguments = (result.get("invocation") or {}).get("module_args")
        if given is None and isinstance(arguments, dict) and "progress_path" in arguments:
            arguments["progress_path"] = None
        return result

    def _low_level_execute_command(
        self, cmd: str, sudoable: bool = True, in_data: bytes | None = None, **options: Any
    ) -> dict[str, Any]:
        """Run a shell command on the node; the module's own is followed.

        Of all commands that ``_execute_module`` runs the module's alone is ``sudoable``: the others make, fill and
        remove directories of the connection's user.
        """
        if self._job is not None and sudoable:
            job, self._job = self._job, None
            return job.run(cmd, in_data)
        result: dict[str, Any] = super()._low_level_execute_command(cmd, sudoable=sudoable, in_data=in_data, **options)
        return result
