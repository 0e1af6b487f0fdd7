"""Processes: /proc, devices, terminals, memory, signals, sockets, clocks, users."""

import array
import ctypes
import errno
import grp
import locale
import mmap
import multiprocessing
import os
import pwd
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from multiprocessing import shared_memory

from files import call, libc, read, said, write
from harness import check, equal, fails, on_terminal


@check("/proc/self", "root", "user")
def _():
    status = read("/proc/self/status")
    equal(status.splitlines()[0].split(), ["Name:", "python3"])
    assert f"\nPid:\t{os.getpid()}\n" in status, status
    assert f"\nUid:\t{os.getuid()}\t" in status, status
    equal(int(os.readlink("/proc/self")), os.getpid())
    equal(os.readlink("/proc/self/cwd"), os.getcwd())
    equal(os.readlink("/proc/self/root"), "/")
    assert os.path.samefile(os.readlink("/proc/self/exe"), sys.executable)
    assert b"checks" in open("/proc/self/cmdline", "rb").read()
    assert b"PATH=" in open("/proc/self/environ", "rb").read()
    equal(int(read("/proc/self/stat").split()[0]), os.getpid())
    assert "python3" in read("/proc/self/maps")
    equal(os.listdir("/proc/self/task"), [str(os.getpid())])
    equal(read("/proc/thread-self/comm"), "python3\n")
    read("/proc/self/limits"), read("/proc/self/io" if os.getuid() == 0 else "/proc/self/statm")


@check("/proc/PID", "root", "user")
def _():
    child = subprocess.Popen(["sleep", "20"])
    time.sleep(0.1)
    equal(read(f"/proc/{child.pid}/comm"), "sleep\n")
    equal(open(f"/proc/{child.pid}/cmdline", "rb").read(), b"sleep\0" b"20\0")
    assert f"\nPPid:\t{os.getpid()}\n" in read(f"/proc/{child.pid}/status")
    equal(os.path.basename(os.readlink(f"/proc/{child.pid}/exe")), "sleep")
    assert str(child.pid) in os.listdir("/proc")
    child.kill()
    child.wait()
    fails([errno.ENOENT, errno.ESRCH], open, f"/proc/{child.pid}/status")
    assert str(child.pid) not in os.listdir("/proc")


@check("/proc/self/fd", "root", "user")
def _():
    write("f", "by number")
    descriptor = os.open("f", os.O_RDONLY)
    equal(read(f"/proc/self/fd/{descriptor}"), "by number")
    equal(read(f"/dev/fd/{descriptor}"), "by number")
    equal(os.readlink(f"/proc/self/fd/{descriptor}"), os.path.realpath("f"))
    assert str(descriptor) in os.listdir("/proc/self/fd")
    reader, writer = os.pipe()
    with open(f"/proc/self/fd/{writer}", "w") as other:
        other.write("through")
    equal(os.read(reader, 9), b"through")
    equal(said("bash", "-c", "cat <(echo substituted)"), "substituted\n")


@check("exec of /proc/self/exe", "root", "user")
def _():
    equal(said("/proc/self/exe", "-c", "print(1)", executable="/proc/self/exe"), "1\n")


@check("a directory of /proc as working directory", "root", "user")
def _():
    os.chdir("/proc/self")
    equal(read("comm"), "python3\n")
    os.chdir("/proc")
    assert "MemTotal" in read("meminfo")
    equal(os.getcwd(), "/proc")


@check("facts in /proc", "root", "user")
def _():
    for path, part in [("cpuinfo", "processor"), ("meminfo", "MemTotal"), ("stat", "cpu "), ("uptime", "."),
                       ("loadavg", "/"), ("version", "Linux"), ("filesystems", "proc"), ("mounts", " / "),
                       ("self/mountinfo", " / / "), ("sys/kernel/osrelease", "."), ("sys/kernel/pid_max", "\n"),
                       ("sys/vm/overcommit_memory", "\n"), ("sys/kernel/random/uuid", "-"),
                       ("sys/kernel/ngroups_max", "\n"), ("sys/fs/file-max", "\n"), ("self/net/dev", "lo:"),
                       ("self/cgroup", ":"), ("self/uid_map", " ")]:
        text = read(f"/proc/{path}")
        assert part in text, f"/proc/{path}: {text!r}"
    assert os.cpu_count() >= 1
    os.statvfs("/proc"), os.statvfs("/")


@check("facts in /sys", "root", "user")
def _():
    processors = "/sys/devices/system/cpu"
    equal(read(f"{processors}/online").strip()[:1], "0")
    assert {"cpu0", "possible", "present"} <= set(os.listdir(processors)), os.listdir(processors)
    equal(os.cpu_count(), int(said("nproc", "--all")))
    assert os.sysconf("SC_NPROCESSORS_CONF") >= os.sysconf("SC_NPROCESSORS_ONLN") >= 1
    fails([errno.EACCES, errno.EROFS, errno.EPERM], os.mkdir, f"{processors}/mine") if os.getuid() else None


@check("listings of /proc and /dev", "root", "user")
def _():
    equal({"self", "meminfo", "sys", str(os.getpid())} - set(os.listdir("/proc")), set())
    equal({"null", "zero", "fd", "stdin", "shm", "pts", "ptmx", "tty"} - set(os.listdir("/dev")), set())
    said("ls", "-la", "/proc/self/", "/dev/")


@check("/dev nodes", "root", "user")
def _():
    for name, numbers in [("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)),
                          ("urandom", (1, 9)), ("tty", (5, 0))]:
        found = os.stat(f"/dev/{name}")
        assert stat.S_ISCHR(found.st_mode), f"{name} is {found.st_mode:o}"
        equal((name, os.major(found.st_rdev), os.minor(found.st_rdev)), (name, *numbers))
    write("/dev/null", "gone")
    equal(read("/dev/null"), "")
    for name in ["zero", "urandom", "random", "full"]:
        with open(f"/dev/{name}", "rb") as file:
            equal(len(file.read(9)), 9)
    descriptor = os.open("/dev/full", os.O_WRONLY)
    fails([errno.ENOSPC], os.write, descriptor, b"x")
    fails([errno.ENXIO], os.open, "/dev/tty", os.O_RDWR)
    equal(said("sh", "-c", "echo x | cat /dev/stdin > /dev/stdout"), "x\n")
    said("sh", "-c", "test -w /dev/null && : > /dev/null && echo y >/dev/stderr")


@check("pseudo-terminals", "root", "user")
def _():
    leader, follower = os.openpty()
    name = os.ttyname(follower)
    assert name.startswith("/dev/pts/"), name
    equal(os.ptsname(leader) if hasattr(os, "ptsname") else name, name)
    with open(name, "w") as terminal:
        terminal.write("shown")
    equal(os.read(leader, 9), b"shown")
    text = on_terminal("sh", "-c", "tty && echo controlled > /dev/tty")
    assert b"/dev/pts/" in text and b"controlled" in text, text


@check("script(1)", "root", "user")
def _():
    assert "in a terminal" in said("script", "-qec", "test -t 1 && echo in a terminal", "/dev/null")


@check("shared memory", "root", "user")
def _():
    block = shared_memory.SharedMemory(create=True, size=65536)
    assert os.path.exists(f"/dev/shm/{block.name}")
    child = os.fork()
    if child == 0:
        other = shared_memory.SharedMemory(block.name)
        other.buf[:5] = b"there"
        os._exit(0)
    equal(os.waitpid(child, 0)[1], 0)
    equal(bytes(block.buf[:5]), b"there")
    block.close()
    block.unlink()
    area = mmap.mmap(-1, 4096)
    if (child := os.fork()) == 0:
        area[:3] = b"abc"
        os._exit(0)
    os.waitpid(child, 0)
    equal(area[:3], b"abc")
    equal(oct(stat.S_IMODE(os.stat("/dev/shm").st_mode)), "0o1777")


@check("System V shared memory and semaphores", "root", "user")
def _():
    libc.shmat.restype = ctypes.c_void_p
    number = call("shmget", 0, 4096, 0o1600)
    address = libc.shmat(number, None, 0)
    ctypes.memmove(address, b"shared", 6)
    equal(ctypes.string_at(address, 6), b"shared")
    call("shmctl", number, 0, None)
    number = call("semget", 0, 1, 0o1600)
    call("semctl", number, 0, 0)
    lock = multiprocessing.Lock()
    assert lock.acquire(timeout=1)
    lock.release()


@check("memfd, eventfd, epoll, pidfd", "root", "user")
def _():
    memory = os.memfd_create("m")
    os.write(memory, b"#!/bin/sh\necho from memory\n")
    equal(read(f"/proc/self/fd/{memory}").split()[-1], "memory")
    event = os.eventfd(3)
    poll = select.epoll()
    poll.register(event, select.EPOLLIN)
    equal(poll.poll(1), [(event, select.EPOLLIN)])
    child = subprocess.Popen(["sleep", "20"])
    descriptor = os.pidfd_open(child.pid)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    equal(child.wait(), -signal.SIGKILL)


@check("unix sockets", "root", "user")
def _():
    for name in ["socket", f"\0abstract-{os.getpid()}"]:
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.listen()
        if (child := os.fork()) == 0:
            client = socket.socket(socket.AF_UNIX)
            client.connect(name)
            with open("/etc/hostname") as file:
                socket.send_fds(client, [b"one"], [file.fileno()])
            os._exit(0)
        connection, _ = server.accept()
        data, descriptors, _, _ = socket.recv_fds(connection, 9, 3)
        equal((data, len(descriptors)), (b"one", 1))
        pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        equal((pid, uid, gid), (child, os.getuid(), os.getgid()))
        equal(os.waitpid(child, 0)[1], 0)
    assert stat.S_ISSOCK(os.stat("socket").st_mode)
    one, two = socket.socketpair()
    one.send(b"pair")
    equal(two.recv(9), b"pair")


@check("TCP and UDP", "root", "user")
def _():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname(), timeout=5)
    connection, _ = server.accept()
    client.sendall(b"x" * 100_000)
    client.close()
    received = b""
    while part := connection.recv(65536):
        received += part
    equal(len(received), 100_000)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    udp.sendto(b"datagram", udp.getsockname())
    equal(udp.recv(20), b"datagram")


@check("DNS", "root", "user")
def _():
    addresses = {found[4][0] for found in socket.getaddrinfo("localhost", 80)}
    assert addresses & {"127.0.0.1", "::1"}, addresses
    equal(said("getent", "hosts", "given.example").split(), ["192.0.2.7", "given.example"])
    read("/etc/resolv.conf")
    fails([socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_NODATA], socket.getaddrinfo, "nowhere.invalid", 80)


@check("host name", "root", "user")
def _():
    equal(socket.gethostname(), "buildkitsandbox")
    equal(said("hostname").strip(), socket.gethostname())
    equal(read("/proc/sys/kernel/hostname"), "buildkitsandbox\n")
    assert os.uname().release == read("/proc/sys/kernel/osrelease").strip()


@check("signals and process groups", "root", "user")
def _():
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        for _ in range(2):
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
        time.sleep(30)
    while os.getpgid(child) != child:
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(child, signal.SIGTERM)
    equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), -signal.SIGTERM)
    time.sleep(0.1)
    fails([errno.ESRCH], os.killpg, child, 0)


@check("handlers, masks, timers", "root", "user")
def _():
    got = []
    signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    equal((got, signal.sigpending()), ([], {signal.SIGUSR1}))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    equal(got, [signal.SIGUSR1])
    signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(0.2)
    equal(got, [signal.SIGUSR1, signal.SIGALRM])
    equal(subprocess.run(["sh", "-c", "trap 'exit 7' TERM; kill $$; sleep 1"]).returncode, 7)
    # A call that a signal interrupts goes on.
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    for _ in range(200):
        read("/proc/self/comm"), read("/etc/passwd")
    signal.setitimer(signal.ITIMER_REAL, 0)


@check("sessions and job control", "root", "user")
def _():
    if (child := os.fork()) == 0:
        os.setsid()
        os._exit(0 if os.getsid(0) == os.getpid() else 1)
    equal(os.waitpid(child, 0)[1], 0)
    child = subprocess.Popen(["sleep", "20"])
    os.kill(child.pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
    os.kill(child.pid, signal.SIGCONT)
    child.kill()
    child.wait()


@check("background processes", "root", "user")
def _():
    said("sh", "-c", "(sleep 0.2; echo later > late) >/dev/null 2>&1 & echo $! > pid")
    assert not os.path.exists("late")
    time.sleep(0.6)
    equal(read("late"), "later\n")
    said("sh", "-c", "nohup setsid sleep 20 >/dev/null 2>&1 & echo $! > pid")
    os.kill(int(read("pid")), signal.SIGKILL)


@check("orphans get another parent", "root", "user")
def _():
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        before = os.getpid()
        if os.fork() == 0:
            # On a loaded machine the parent may be gone before this runs at all.
            time.sleep(0.2)
            os.write(writer, b"new" if os.getppid() != before else b"old")
            os._exit(0)
        time.sleep(0.05)
        os._exit(0)
    os.waitpid(child, 0)
    equal(os.read(reader, 9), b"new")


@check("many processes at once", "root", "user")
def _():
    children = [subprocess.Popen(["sh", "-c", "read line < /proc/self/stat; exit 3"]) for _ in range(50)]
    equal({child.wait() for child in children}, {3})


@check("tracing a child", "root", "user")
def _():
    if (child := os.fork()) == 0:
        call("ptrace", 0, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(9)
    assert os.WIFSTOPPED(os.waitpid(child, 0)[1])
    call("ptrace", 7, child, None, None)
    equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 9)


@check("scripts and interpreters", "root", "user")
def _():
    write("script", "#!/usr/bin/env -S sh -e\necho $0 $1\n")
    os.chmod("script", 0o755)
    equal(said("./script", "word"), "./script word\n")
    os.chmod("script", 0o644)
    fails([errno.EACCES], os.execv, "./script", ["script"])
    equal(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp("true", ["true"], os.environ), 0)[1]), 0)
    descriptor = os.open("/bin/true", os.O_RDONLY)
    if (child := os.fork()) == 0:
        os.execve(descriptor, ["true"], {})
    equal(os.waitpid(child, 0)[1], 0)


@check("limits", "root", "user")
def _():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, soft), hard))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        equal(error.errno, errno.EMFILE)
    assert len(held) < 64


@check("clock", "root", "user")
def _():
    assert time.time() > 1_700_000_000
    write("f")
    assert abs(os.stat("f").st_mtime - time.time()) < 2, os.stat("f").st_mtime - time.time()
    before = time.monotonic()
    time.sleep(0.05)
    assert 0.04 < time.monotonic() - before < 10
    for clock in [time.CLOCK_BOOTTIME, time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID]:
        assert time.clock_gettime(clock) >= 0
    equal(said("date", "-u", "-d", "@86400", "+%F"), "1970-01-02\n")


@check("locale", "root", "user")
def _():
    equal(locale.setlocale(locale.LC_ALL, "C.UTF-8"), "C.UTF-8")
    equal(said("sh", "-c", "printf 'gr\\303\\274n' | wc -m", env={**os.environ, "LC_ALL": "C.UTF-8"}).strip(), "4")
    assert "C.utf8" in said("locale", "-a").replace("UTF-8", "utf8")


@check("standard streams", "root", "user")
def _():
    equal(os.read(0, 9), b"")
    assert not os.isatty(0)
    os.write(2, b"")


@check("useradd, su, setpriv")
def _():
    said("useradd", "-m", "-u", "1600", "-G", "audio,video", "-s", "/bin/sh", "matrix")
    try:
        found = pwd.getpwnam("matrix")
        equal((found.pw_uid, found.pw_dir, os.stat("/home/matrix").st_uid), (1600, "/home/matrix", 1600))
        assert "matrix" in grp.getgrnam("audio").gr_mem
        equal(said("su", "matrix", "-c", "id -un; id -Gn | tr ' ' '\\n' | sort | xargs; pwd", cwd="/"),
              "matrix\naudio matrix video\n/\n")
        equal(said("su", "-", "matrix", "-c", "pwd; echo $HOME"), "/home/matrix\n/home/matrix\n")
        equal(said("runuser", "-u", "matrix", "--", "id", "-u"), "1600\n")
        equal(said("setpriv", "--reuid=1600", "--regid=44", "--clear-groups", "sh", "-c", "id -u; id -g; id -G"),
              "1600\n44\n44\n")
        said("setpriv", "--reuid=matrix", "--regid=matrix", "--init-groups", "--inh-caps=-all", "true")
        said("sh", "-c", "echo matrix:secret | chpasswd")
        assert read("/etc/shadow").split("matrix:")[1].startswith("$")
        said("usermod", "-aG", "games", "matrix")
        said("chage", "-d", "0", "matrix")
    finally:
        said("userdel", "-r", "matrix")
    fails([errno.ENOENT], os.stat, "/home/matrix")


@check("a drop is for good")
def _():
    os.setgroups([44, 20])
    os.setresgid(1700, 1700, 1700)
    os.setresuid(1701, 1701, 1701)
    equal((os.getresuid(), os.getresgid(), sorted(os.getgroups())), ((1701,) * 3, (1700,) * 3, [20, 44]))
    fails([errno.EPERM], os.setresuid, 0, 0, 0)
    fails([errno.EPERM], os.setgroups, [0])
    fails([errno.EACCES], open, "/etc/shadow")
    # What is served must be served to whoever asks.
    write("/dev/null")
    equal(read("/proc/self/status").split("Uid:")[1].split()[:4], ["1701"] * 4)


@check("a drop and back")
def _():
    os.chmod(".", 0o777)
    os.setegid(44)
    os.seteuid(1701)
    write("f")
    fails([errno.EACCES], open, "/etc/shadow")
    os.seteuid(0)
    os.setegid(0)
    read("/etc/shadow")
    found = os.stat("f")
    equal((found.st_uid, found.st_gid), (1701, 44))


@check("who we are", "user")
def _():
    equal((os.getresuid(), os.getresgid(), os.getgroups()), ((1500,) * 3, (1500,) * 3, [1500]))
    equal(said("id", "-un"), "alice\n")
    fails([errno.EPERM], os.setuid, 0)
    assert os.access(os.environ["HOME"], os.W_OK)
    write(os.path.expanduser("~/mine"))
    os.unlink(os.path.expanduser("~/mine"))


@check("sudo", "sudo")
def _():
    equal(said("sudo", "-n", "id", "-u"), "0\n")
    assert "root" in said("sudo", "-n", "cat", "/etc/shadow")
    equal(said("sudo", "-n", "-u", "nobody", "id", "-un"), "nobody\n")


@check("setuid programs and file capabilities gain", "sudo")
def _():
    equal(said("/setuid-id", "-u"), "0\n")
    effective = said("/capable-cat", "/proc/self/status").split("CapEff:")[1].split()[0]
    assert int(effective, 16) & 1 << 10, effective


@check("chroot", "chroot")
def _():
    os.makedirs("root/bin")
    said("sh", "-c", "cp --parents $(ldd /bin/cat | grep -o '/[^ ]*') root && cp /bin/cat root/bin/")
    write("root/note", "inside")
    equal(said("chroot", "root", "/bin/cat", "/note"), "inside")
