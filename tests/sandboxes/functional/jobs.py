"""Jobs: groups, sessions, terminals, signals, and what is left running."""

import ctypes
import errno
import multiprocessing
import os
import pty
import select
import signal
import socket
import subprocess
import time

from files import call, libc, read, said, write
from harness import check, equal, fails, on_terminal
from sockets import forked

SECRET = "coracle-left-behind"


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@check("a shell's jobs on a terminal", "root", "user")
def _():
    text = on_terminal("bash", "--norc", "-ic", "set -m; sleep 20 & kill -STOP %1; sleep 0.1; jobs; kill -CONT %1; "
                       "kill %1; wait %1; echo status $?; echo done")
    assert b"Stopped" in text and b"status 143" in text and b"done" in text, text


@check("the terminal's interrupt goes to the job in front", "root", "user")
def _():
    child, leader = pty.fork()
    if child == 0:
        os.execvp("sh", ["sh", "-c", "trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done"])
    text = b""
    while b"ready" not in text:
        text += os.read(leader, 1000)
    os.write(leader, b"\x03")
    equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 3)


@check("groups and sessions", "root", "user")
def _():
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.pause()
    until(lambda: os.getpgid(child) == child)
    equal(os.getsid(child), os.getsid(0))
    other = os.fork()
    if other == 0:
        os.setpgid(0, child)
        signal.pause()
    until(lambda: os.getpgid(other) == child)
    fails([errno.EPERM], os.setpgid, other, 1 << 21)
    os.killpg(child, signal.SIGTERM)
    equal({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in [child, other]}, {-signal.SIGTERM})

    def leader():
        os.setsid()
        fails([errno.EPERM], os.setsid)
        equal((os.getpgrp(), os.getsid(0)), (os.getpid(), os.getpid()))

    forked(leader)()


def interrupted(restart):
    """read(2) of a pipe, as C has it, while a signal comes."""
    reader, writer = os.pipe()
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.siginterrupt(signal.SIGUSR1, not restart)
    own = os.getpid()

    def other():
        time.sleep(0.1)
        os.kill(own, signal.SIGUSR1)
        time.sleep(0.1)
        os.write(writer, b"x")

    wait = forked(other)
    buffer = ctypes.create_string_buffer(4)
    try:
        return call("read", reader, buffer, 1)
    finally:
        wait()


@check("signals with SA_RESTART and without", "root", "user")
def _():
    equal(interrupted(restart=True), 1)
    fails([errno.EINTR], interrupted, restart=False)


@check("calls with a path under a storm of signals", "root", "user")
def _():
    write("f", "text")
    count = 0

    def handler(number, frame):
        nonlocal count
        count += 1

    signal.signal(signal.SIGALRM, handler)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    buffer = ctypes.create_string_buffer(400)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for path in [b"f", b"/etc/passwd", b"/proc/self/stat", b"/dev/null"]:
            os.close(call("open", path, os.O_RDONLY))
            call("access", path, os.R_OK)
        call("readlink", b"/proc/self/exe", buffer, 400)
        equal(subprocess.Popen(["true"]).wait(), 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert count > 20, count


@check("signals: queued, waited for, ignored, to threads", "root", "user")
def _():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN])
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGRTMIN)
    for _ in range(3):
        equal(signal.sigtimedwait([signal.SIGRTMIN], 1).si_pid, os.getpid())
    equal(signal.sigtimedwait([signal.SIGRTMIN], 0), None)
    own = os.getpid()
    wait = forked(lambda: os.kill(own, signal.SIGUSR1))
    assert signal.sigtimedwait([signal.SIGUSR1], 5)
    wait()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    os.kill(own, signal.SIGUSR2)
    equal(subprocess.run(["sh", "-c", "kill -USR1 $$; exit 4"], preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
                         restore_signals=False).returncode, 4)
    equal(subprocess.call(["sh", "-c", "kill -SEGV $$"]), -signal.SIGSEGV)


@check("a signal says who sent it", "root", "user")
def _():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    own = os.getpid()
    sender = os.fork()
    if sender == 0:
        os.kill(own, signal.SIGUSR1)
        os._exit(0)
    told = signal.sigtimedwait([signal.SIGUSR1], 5)
    equal((told.si_pid, told.si_uid), (sender, os.getuid()))
    os.waitpid(sender, 0)


@check("processes that a process names to wait for", "root", "user")
def _():
    child = os.fork()
    if child == 0:
        os._exit(5)
    told = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    equal((told.si_pid, told.si_status), (child, 5))
    equal(os.waitpid(-1, 0)[0], child)
    fails([errno.ECHILD], os.waitpid, child, 0)
    child = subprocess.Popen(["sleep", "20"])
    descriptor = os.pidfd_open(child.pid)
    equal(select.select([descriptor], [], [], 0)[0], [])
    child.terminate()
    equal(select.select([descriptor], [], [], 5)[0], [descriptor])
    equal(child.wait(), -signal.SIGTERM)


@check("children of this process's own", "root", "user")
def _():
    """PR_SET_CHILD_SUBREAPER: orphans come to whoever asks for them."""
    call("prctl", 36, 1, 0, 0, 0)
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            time.sleep(0.1)
            os._exit(6)
        os._exit(0)
    equal(os.waitpid(child, 0)[1], 0)
    equal(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]), 6)
    call("prctl", 1, signal.SIGKILL, 0, 0, 0)


def see_itself():
    """What must work whoever asks, and however it came to be."""
    equal(int(read("/proc/self/status").split("\nPid:")[1].split()[0]), os.getpid())
    equal(int(os.readlink("/proc/self")), os.getpid())
    equal(os.readlink("/proc/self/cwd"), os.getcwd())
    descriptor = os.open(".", os.O_RDONLY)
    assert str(descriptor) in os.listdir("/proc/self/fd")
    write("/dev/null")
    equal(os.stat(f"/proc/self/fd/{descriptor}").st_ino, os.fstat(descriptor).st_ino)
    own = os.path.join("/proc", str(os.getpid()), "comm")
    equal(read(own), "python3\n")
    reader, writer = os.pipe()
    with open(f"/dev/fd/{writer}", "w") as other:
        other.write("through")
    equal(os.read(reader, 9), b"through")
    equal(os.path.basename(read("/etc/passwd").split(":")[0]), "root")
    leader, follower = os.openpty()
    assert os.ttyname(follower).startswith("/dev/pts/")
    equal(said("bash", "-c", "cat /proc/self/comm; cat <(echo x)"), "cat\nx\n")


def see_itself_in_children():
    see_itself()
    forked(see_itself)()
    forked(lambda: forked(see_itself)())()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        equal(pool.map(abs, [-1, -2, -3]), [1, 2, 3])
    equal(subprocess.run(["cat", "/proc/self/comm"], stdout=subprocess.PIPE).stdout, b"cat\n")


@check("what a process forks after a drop without exec")
def _():
    os.chmod(".", 0o777)

    def dropped():
        os.setgroups([1700])
        os.setgid(1700)
        os.setuid(1701)
        os.chdir(".")
        fails([errno.EPERM], os.setuid, 0)
        see_itself_in_children()

    forked(dropped)()
    # A second user after the first, by a child that stays root meanwhile.
    forked(lambda: (forked(dropped)(), see_itself()))()


@check("what a child forks that was started as another user")
def _():
    os.chmod(".", 0o777)
    code = "import sys; sys.argv = ['x']; sys.path.insert(0, '/functional'); import jobs; jobs.see_itself_in_children()"
    run = subprocess.run(["python3", "-c", code], user=1702, group=1702, extra_groups=[], stderr=subprocess.PIPE, text=True)
    equal((run.returncode, run.stderr), (0, ""))


@check("a drop of one thread's, and of all")
def _():
    os.chmod(".", 0o777)
    import threading
    go, done, said_by = threading.Event(), threading.Event(), []

    def other():
        go.wait()
        said_by.append((os.getuid(), read("/proc/thread-self/status").split("Uid:")[1].split()[0]))
        done.set()

    def dropped():
        threading.Thread(target=other).start()
        os.setgid(1700)
        os.setuid(1701)
        go.set()
        done.wait(5)
        equal(said_by, [(1701, "1701")])

    forked(dropped)()


@check("a daemon stays, with all it holds", "leave", "leave-as-user")
def _():
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGALRM]:
                signal.signal(number, signal.SIG_IGN)
            held = socket.socket(socket.AF_UNIX)
            held.bind(f"\0{SECRET}")
            with open("/dev/shm/" + SECRET, "w") as file:
                file.write("held")
            os.write(writer, b"x")
            os.execvp("sleep", ["sleep", "98765"])
        os._exit(0)
    equal(os.read(reader, 1), b"x")
    until(lambda: "98765" in all_commands())


@check("System V objects and queues stay", "leave", "leave-as-user")
def _():
    for key in [0x6C656674, 0]:
        call("shmget", key, 4096, 0o1666)
        call("semget", key, 1, 0o1666)
        call("msgget", key, 0o1666)
    call("mq_open", b"/" + SECRET.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)


def all_commands():
    commands = []
    for name in os.listdir("/proc"):
        try:
            commands.append(open(f"/proc/{name}/cmdline", "rb").read().replace(b"\0", b" ").decode())
        except (OSError, ValueError):
            pass
    return " ".join(commands)


@check("no daemon of the RUN before", "left")
def _():
    assert "98765" not in all_commands(), all_commands()
    socket.socket(socket.AF_UNIX).bind(f"\0{SECRET}")
    assert not os.path.exists("/dev/shm/" + SECRET)


@check("no System V object or queue of the RUN before", "left")
def _():
    fails([errno.ENOENT], call, "shmget", 0x6C656674, 0, 0)
    fails([errno.ENOENT], call, "semget", 0x6C656674, 0, 0)
    fails([errno.ENOENT], call, "msgget", 0x6C656674, 0)
    fails([errno.ENOENT], call, "mq_open", b"/" + SECRET.encode(), os.O_RDWR)
    status = ctypes.create_string_buffer(256)
    for index in range(100):
        fails([errno.EINVAL, errno.ENOENT, errno.EACCES], call, "shmctl", index, 13, status)
