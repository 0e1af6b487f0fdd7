"""One PASS or FAIL line for each check, and a count at the end, so that a run
that broke off shows. Each check is a process with a directory of its own."""

import errno
import os
import pty
import shutil
import signal
import sys
import tempfile
import traceback

CHECKS = {}
SECONDS = 30


def check(name, *groups):
    def register(function):
        for group in groups or ("root",):
            CHECKS.setdefault(group, []).append((name, function))
        return function

    return register


def run(group):
    passed = 0
    for name, function in CHECKS[group]:
        error = one(function)
        passed += error is None
        print(f"PASS {group}: {name}" if error is None else f"FAIL {group}: {name}: {error}", flush=True)
    print(f"CHECKED {group}: {passed} of {len(CHECKS[group])}", flush=True)


def one(function):
    """None, or what went wrong."""
    directory = tempfile.mkdtemp(prefix="check-")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setpgid(0, 0)
        signal.alarm(SECONDS)
        os.chdir(directory)
        try:
            function()
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__} {error} ({os.path.basename(place.filename)}:{place.lineno}: {place.line})"
            os.write(writer, text.replace("\n", " ").encode())
        finally:
            os._exit(0)
    os.close(writer)
    error = b""
    while part := os.read(reader, 65536):
        error += part
    os.close(reader)
    _, status = os.waitpid(child, 0)
    try:
        os.killpg(child, signal.SIGKILL)
    except OSError:
        pass
    shutil.rmtree(directory, ignore_errors=True)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"still running after {SECONDS} s" if number == signal.SIGALRM else f"ended by signal {number}"
    return error.decode(errors="replace") or None


def main(*modules):
    run(sys.argv[1])


def on_terminal(*command):
    """What it writes to a terminal of its own; it must end with 0."""
    child, leader = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    text = b""
    try:
        while part := os.read(leader, 1000):
            text += part
    except OSError as error:
        equal(error.errno, errno.EIO)
    os.close(leader)
    equal(os.waitpid(child, 0)[1], 0)
    return text


def fails(errors, function, *arguments, **named):
    """That it fails, with one of these errors."""
    try:
        function(*arguments, **named)
    except OSError as error:
        if error.errno not in errors:
            raise
        return
    raise AssertionError(f"{getattr(function, '__name__', function)}{arguments} worked")


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"{actual!r}, not {expected!r}")
