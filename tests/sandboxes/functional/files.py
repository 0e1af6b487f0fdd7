"""Files: owners, modes, links, attributes, paths, directories."""

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
import subprocess
import threading

from harness import check, equal, fails

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


def call(name, *arguments):
    """A call of the C library that Python has no name for."""
    result = getattr(libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def write(path, text="x"):
    with open(path, "w") as file:
        file.write(text)


def read(path):
    with open(path) as file:
        return file.read()


def said(*command, **named):
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **named)
    if run.returncode:
        raise AssertionError(f"{' '.join(command)}: {run.returncode}: {run.stdout}")
    return run.stdout


def owner(path):
    found = os.lstat(path)
    return found.st_uid, found.st_gid, oct(stat.S_IMODE(found.st_mode))


@check("owners and modes seen by stat")
def _():
    write("f")
    for uid, gid, mode in [(1, 2, 0o640), (1234, 5678, 0o1777), (65534, 65534, 0), (0, 33, 0o2755)]:
        os.chown("f", uid, gid)
        os.chmod("f", mode)
        equal(owner("f"), (uid, gid, oct(mode)))
        equal(said("stat", "-c", "%u %g %a", "f"), f"{uid} {gid} {mode:o}\n")
    os.chown("f", -1, 77)
    equal(owner("f")[:2], (0, 77))
    descriptor = os.open("f", os.O_RDONLY)
    os.fchown(descriptor, 5, 6)
    os.fchmod(descriptor, 0o604)
    found = os.fstat(descriptor)
    equal((found.st_uid, found.st_gid, oct(found.st_mode)), (5, 6, "0o100604"))


@check("owner of a link, not of what it names")
def _():
    write("f")
    os.symlink("f", "l")
    os.lchown("l", 11, 12)
    equal(owner("l")[:2], (11, 12))
    equal(owner("f")[:2], (0, 0))


@check("setgid directories hand on their group")
def _():
    os.mkdir("d")
    os.chown("d", 0, 44)
    os.chmod("d", 0o2775)
    write("d/f")
    os.mkdir("d/e")
    equal(owner("d/f")[1], 44)
    equal((owner("d/e")[1], os.stat("d/e").st_mode & stat.S_ISGID), (44, stat.S_ISGID))


@check("setuid is kept, and cleared by chown")
def _():
    write("f")
    os.chmod("f", 0o4755)
    os.rename("f", "g")
    os.link("g", "h")
    equal(owner("h")[2], "0o4755")
    os.chown("g", 1, 1)
    equal(owner("g")[2], "0o755")
    os.chmod("g", 0o6711)
    equal(said("stat", "-c", "%a", "g"), "6711\n")


@check("capabilities are kept")
def _():
    write("f")
    os.chmod("f", 0o755)
    said("setcap", "cap_net_raw,cap_net_bind_service=ep", "f")
    os.rename("f", "g")
    equal(said("getcap", "g").split()[-1], "cap_net_bind_service,cap_net_raw=ep")
    assert "security.capability" in os.listxattr("g")
    said("setcap", "-r", "g")
    equal(said("getcap", "g"), "")


@check("hard links", "root", "user")
def _():
    write("a", "one")
    os.link("a", "b")
    os.link("b", "c")
    equal({os.stat(name).st_ino for name in "abc"}, {os.stat("a").st_ino})
    equal(os.stat("c").st_nlink, 3)
    with open("b", "a") as file:
        file.write(" two")
    equal(read("c"), "one two")
    os.unlink("a")
    equal(os.stat("b").st_nlink, 2)
    os.symlink("nowhere", "s")
    os.link("s", "t", follow_symlinks=False)
    equal(os.readlink("t"), "nowhere")
    fails([errno.EEXIST], os.link, "b", "c")


@check("hard links by descriptor", "root", "user")
def _():
    descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(descriptor, b"unnamed")
    # os.link() does not pass AT_SYMLINK_FOLLOW on.
    call("linkat", AT_FDCWD, f"/proc/self/fd/{descriptor}".encode(), AT_FDCWD, b"named", 0x400)
    equal((read("named"), os.stat("named").st_nlink), ("unnamed", 1))


@check("rename", "root", "user")
def _():
    write("a", "a")
    write("b", "b")
    os.rename("a", "b")
    equal(read("b"), "a")
    os.makedirs("d/e")
    write("d/e/f")
    os.mkdir("empty")
    os.rename("d", "empty")
    equal(os.listdir("empty"), ["e"])
    fails([errno.EINVAL], os.rename, "empty", "empty/e/g")
    os.mkdir("full")
    write("full/x")
    fails([errno.ENOTEMPTY, errno.EEXIST], os.rename, "empty", "full")
    fails([errno.ENOENT], os.rename, "nothing", "x")


@check("rename without replacing, and exchange", "root", "user")
def _():
    write("a", "a")
    write("b", "b")
    fails([errno.EEXIST], call, "renameat2", AT_FDCWD, b"a", AT_FDCWD, b"b", 1)
    call("renameat2", AT_FDCWD, b"a", AT_FDCWD, b"b", 2)
    equal((read("a"), read("b")), ("b", "a"))


@check("symlinks", "root", "user")
def _():
    os.mkdir("d")
    write("d/f", "there")
    os.symlink("d", "l")
    os.symlink("../d/f", "d/up")
    equal((read("l/up"), os.readlink("d/up")), ("there", "../d/f"))
    os.symlink("loop", "loop")
    fails([errno.ELOOP], os.stat, "loop")
    equal(os.path.realpath("l/up"), os.path.realpath("d/f"))


@check("fifo and socket files", "root", "user")
def _():
    os.mkfifo("fifo", 0o640)
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)
    child = os.fork()
    if child == 0:
        write("fifo", "through")
        os._exit(0)
    equal(read("fifo"), "through")
    os.waitpid(child, 0)


@check("mknod of devices")
def _():
    for name, kind, numbers in [("c", stat.S_IFCHR, (1, 5)), ("b", stat.S_IFBLK, (7, 0))]:
        os.mknod(name, kind | 0o640, os.makedev(*numbers))
        os.rename(name, f"{name}.new")
    os.chown("c.new", 0, 6)


@check("xattrs", "root", "user")
def _():
    write("f")
    os.mkdir("d")
    for path in "fd":
        os.setxattr(path, "user.one", b"1")
        os.setxattr(path, "user.large", b"v" * 2000)
        os.setxattr(path, "user.one", b"2", os.XATTR_REPLACE)
        equal(sorted(name for name in os.listxattr(path) if name.startswith("user.")), ["user.large", "user.one"])
        equal((os.getxattr(path, "user.one"), len(os.getxattr(path, "user.large"))), (b"2", 2000))
        fails([errno.EEXIST], os.setxattr, path, "user.one", b"3", os.XATTR_CREATE)
        os.removexattr(path, "user.one")
        fails([errno.ENODATA], os.getxattr, path, "user.one")
    os.symlink("f", "l")
    equal(os.getxattr("l", "user.large"), b"v" * 2000)
    # A link has no attributes of users: what is refused is named.
    fails([errno.EPERM, errno.EOPNOTSUPP], os.setxattr, "l", "user.own", b"1", follow_symlinks=False)
    equal([name for name in os.listxattr("l", follow_symlinks=False) if name.startswith("user.")], [])
    os.setxattr("l", "user.through", b"link")
    descriptor = os.open("f", os.O_RDONLY)
    equal((os.getxattr(descriptor, "user.through"), os.getxattr(f"/proc/self/fd/{descriptor}", "user.through")), (b"link", b"link"))
    os.rename("d", "e")
    equal(len(os.getxattr("e", "user.large")), 2000)
    said("cp", "-a", "f", "g")
    equal(os.getxattr("g", "user.through"), b"link")
    fails([errno.ERANGE], call, "getxattr", b"f", b"user.large", ctypes.create_string_buffer(10), 10)
    fails([errno.ENOENT], os.listxattr, "nothing")


@check("copied xattrs", "root", "user")
def _():
    # A file of the base with several names, and one that was made here; lists by
    # descriptor may show what coracle keeps there, copies have none of it.
    for path in ["/usr/bin/perl", "f"]:
        if path == "f":
            write("f")
            os.setxattr("f", "user.mine", b"1" * 50)
        elif not os.path.exists(path):
            continue
        names = [name for name in os.listxattr(path)]
        equal([name for name in names if "coracle" in name], [])
        equal(said("cp", "--preserve=all", path, "g"), "")
        equal(os.listxattr("g"), names)
        with open("g") as file:
            equal(os.listxattr(file.fileno()), names)
            for value in [b"2", b"2" * 100]:
                os.setxattr(file.fileno(), "user.by-descriptor", value)
                equal(os.getxattr("g", "user.by-descriptor"), value)
        os.unlink("g")


@check("umask", "root", "user")
def _():
    equal(os.umask(0o077), 0o022)
    write("f")
    os.mkdir("d")
    equal((owner("f")[2], owner("d")[2]), ("0o600", "0o700"))
    os.umask(0)
    os.close(os.open("g", os.O_CREAT | os.O_WRONLY, 0o666))
    equal(owner("g")[2], "0o666")


@check("deep paths", "root", "user")
def _():
    name = "n" * 100
    top = os.open(".", os.O_RDONLY)
    here = os.dup(top)
    for _ in range(60):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.fchdir(here)
    write("bottom", "deep")
    equal(read("bottom"), "deep")
    os.fchdir(top)
    said("rm", "-r", name)
    fails([errno.ENAMETOOLONG], os.mkdir, "n" * 256)
    fails([errno.ENAMETOOLONG], os.stat, "x/" * 2100)


@check("a path of 4,000 bytes", "root", "user")
def _():
    top = os.getcwd()
    name, depth = "n" * 99, (4_000 - len(top)) // 100
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    path = top + f"/{name}" * depth
    equal((os.getcwd(), len(path) > 3_800), (path, True))
    write("bottom", "deep")
    equal((read("bottom"), read(f"{path}/bottom")), ("deep", "deep"))
    os.symlink("bottom", "l")
    os.rename("l", "m")
    equal(os.readlink(f"{path}/m"), "bottom")
    os.chmod(f"{path}/bottom", 0o711)
    said("cp", "/bin/true", "program")
    said("./program"), said(f"{path}/program")
    equal(said("/bin/pwd").strip(), path)
    os.mkdir(f"{path}/d")
    os.chdir(f"{path}/d")
    equal(sorted(os.listdir("..")), ["bottom", "d", "m", "program"])
    equal(os.path.samefile("/proc/self/cwd", "."), True)
    os.chdir(top)
    said("rm", "-r", name)


@check("big directories", "root", "user")
def _():
    os.mkdir("d")
    here = os.open("d", os.O_RDONLY)
    for number in range(20_000):
        os.close(os.open(f"file-{number}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=here))
    equal(len(os.listdir("d")), 20_000)
    # Entries that go while somebody reads neither repeat nor hide others.
    seen = []
    for entry in os.scandir("d"):
        seen.append(entry.name)
        os.unlink(entry.path)
    equal((len(seen), len(set(seen)), os.listdir("d")), (20_000, 20_000, []))
    os.rmdir("d")
    fails([errno.ENOENT], os.stat, "d")


@check("names that are not ASCII", "root", "user")
def _():
    for name in ["grüße", "日本", "a b\tc", "-rf", "*"]:
        write(f"./{name}", name)
        equal(read(f"./{name}"), name)
    with open(b"\xff\xfe", "w") as file:
        file.write("not UTF-8")
    equal(len(os.listdir(".")), 6)


@check("sparse files, truncation, copies inside the kernel", "root", "user")
def _():
    with open("f", "wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 20)
        file.write(b"middle")
    assert os.stat("f").st_blocks < 1000
    source, target = os.open("f", os.O_RDONLY), os.open("g", os.O_CREAT | os.O_RDWR)
    os.lseek(source, 1 << 20, os.SEEK_SET)
    equal(os.copy_file_range(source, target, 6), 6)
    equal(os.sendfile(target, source, 1 << 20, 6), 6)
    equal(os.pread(target, 20, 0), b"middlemiddle")
    os.posix_fallocate(target, 0, 1 << 16)
    equal(os.fstat(target).st_size, 1 << 16)
    os.fsync(target)
    os.sync()


@check("times", "root", "user")
def _():
    write("f")
    os.utime("f", ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    equal(os.stat("f").st_mtime_ns, 987_654_321_987_654_321)
    os.symlink("f", "l")
    os.utime("l", ns=(1, 2_000_000_000), follow_symlinks=False)
    equal((os.lstat("l").st_mtime_ns, os.stat("f").st_mtime_ns), (2_000_000_000, 987_654_321_987_654_321))


def watched(path, act, mask=0xFFF, flags=0):
    """What inotify(7) tells of `path` while `act` happens."""
    watcher = call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
    call("inotify_add_watch", watcher, path.encode(), mask | flags)
    act()
    events = []
    while True:
        try:
            data = os.read(watcher, 65536)
        except BlockingIOError:
            os.close(watcher)
            return events
        while data:
            _, mask, cookie, length = struct.unpack_from("iIII", data)
            events.append((mask, data[16 : 16 + length].rstrip(b"\0"), cookie))
            data = data[16 + length :]


@check("inotify", "root", "user")
def _():
    os.mkdir("d")
    write("d/old")

    def act():
        write("d/f")
        read("d/f")
        os.chmod("d/f", 0o600)
        os.rename("d/f", "d/g")
        os.link("d/g", "d/h")
        os.unlink("d/g")
        os.mkdir("d/e")
        os.rmdir("d/e")
        os.rename("d/h", "gone")
        os.listdir("d")

    told = watched("d", act)
    for mask, wanted in [(0x100, b"f"), (0x20, b"f"), (0x2, b"f"), (0x8, b"f"), (0x1, b"f"), (0x10, b"f"), (0x4, b"f"),
                         (0x40, b"f"), (0x80, b"g"), (0x100, b"h"), (0x200, b"g"), (0x40000100, b"e"), (0x40000200, b"e"),
                         (0x40, b"h"), (0x40000020, b"")]:
        assert (mask, wanted) in [(found, name) for found, name, _ in told], f"{mask:#x} {wanted} not in {told}"
    cookies = {(mask, name): cookie for mask, name, cookie in told if mask & 0xC0}
    equal(cookies[(0x40, b"f")], cookies[(0x80, b"g")])
    assert cookies[(0x40, b"h")] != cookies[(0x40, b"f")]


@check("inotify of what is watched itself", "root", "user")
def _():
    write("f")
    # IN_MOVE_SELF, IN_ATTRIB (its last name goes), IN_DELETE_SELF, IN_IGNORED.
    told = [mask for mask, _, _ in watched("f", lambda: (os.rename("f", "g"), os.unlink("g")))]
    equal(told, [0x800, 0x4, 0x400, 0x8000])
    write("f")
    descriptor = os.open("f", os.O_WRONLY)
    # Through /proc, and once only (IN_ONESHOT).
    told = watched(f"/proc/self/fd/{descriptor}", lambda: (os.write(descriptor, b"1"), os.write(descriptor, b"2")), 0x2, 0x80000000)
    equal([mask for mask, _, _ in told], [0x2, 0x8000])
    os.mkdir("d")
    os.symlink("d", "l")
    fails([errno.ENOTDIR, errno.ELOOP], watched, "l", lambda: None, 0x2, 0x3000000)
    fails([errno.ENOTDIR], watched, "f", lambda: None, 0x2, 0x1000000)
    fails([errno.ENOENT], watched, "nothing", lambda: None)


@check("file locks", "root", "user")
def _():
    for lock in [fcntl.flock, fcntl.lockf]:
        with open("f", "w") as file:
            lock(file, fcntl.LOCK_EX)
            child = os.fork()
            if child == 0:
                with open("f", "r+") as other:
                    try:
                        lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os._exit(1)
                    except OSError as error:
                        os._exit(0 if error.errno in (errno.EAGAIN, errno.EACCES) else 2)
            equal(os.waitpid(child, 0)[1], 0)
            lock(file, fcntl.LOCK_UN)
    equal(said("flock", "f", "echo", "locked"), "locked\n")


@check("writing to a program that runs is refused", "root", "user")
def _():
    said("cp", "/bin/sleep", "sleeper")
    sleeper = subprocess.Popen(["./sleeper", "20"])
    fails([errno.ETXTBSY], open, "sleeper", "r+")
    sleeper.kill()
    sleeper.wait()


@check("permissions bind", "user")
def _():
    fails([errno.EACCES], open, "/etc/shadow")
    fails([errno.EACCES, errno.EPERM], open, "/etc/passwd", "a")
    fails([errno.EACCES], os.mkdir, "/usr/mine")
    write("f")
    fails([errno.EPERM], os.chown, "f", 0, 0)
    os.chmod("f", 0)
    fails([errno.EACCES], open, "f")
    equal(owner("f"), (1500, 1500, "0o0"))
    fails([errno.EACCES], os.listdir, "/root")


@check("a private directory of another user is closed", "root")
def _():
    os.mkdir("d", 0o700)
    write("d/f", "secret")
    os.chmod(".", 0o755)
    run = subprocess.run(["setpriv", "--reuid=1500", "--regid=1500", "--clear-groups", "cat", "d/f"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.returncode and not run.stdout, run


@check("threads open the same tree", "root", "user")
def _():
    os.mkdir("d")
    errors = []

    def work(number):
        try:
            for turn in range(50):
                write(f"d/{number}-{turn}", str(turn))
                os.rename(f"d/{number}-{turn}", f"d/{number}")
                equal(read("/proc/self/comm")[:6], "python")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    equal(errors, [])
    equal(sorted(os.listdir("d")), [str(number) for number in range(8)])


@check("making what /proc leads to", "root", "user")
def _():
    os.mkdir("d")
    here = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    for way in [f"/proc/self/fd/{here}", f"/dev/fd/{here}", "/proc/self/cwd/d", f"/proc/self/root{os.getcwd()}/d"]:
        os.mkdir(f"{way}/e", 0o700)
        equal(oct(os.stat("d/e").st_mode), "0o40700")
        os.mkdir(f"{way}/e/slash/")
        fails([errno.EEXIST], os.mkdir, f"{way}/e")
        fails([errno.ENOENT], os.mkdir, f"{way}/nothing/e")
        write(f"{way}/f", "content")
        os.truncate(f"{way}/f", 4)
        equal(read("d/f"), "cont")
        fails([errno.EISDIR], os.truncate, f"{way}/e", 0)
        os.symlink("f", f"{way}/l")
        equal(os.readlink("d/l"), "f")
        fails([errno.EEXIST], os.symlink, "f", f"{way}/l")
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"{way}/s")
        server.listen()
        socket.socket(socket.AF_UNIX).connect(f"{way}/s")
        fails([errno.EADDRINUSE], socket.socket(socket.AF_UNIX).bind, f"{way}/s")
        equal(sorted(os.listdir("d")), ["e", "f", "l", "s"])
        said("rm", "-r", "d/e", "d/f", "d/l", "d/s")
    if os.getuid():
        os.chdir("/")
        fails([errno.EACCES], os.mkdir, "/proc/self/cwd/mine")
        fails([errno.EACCES], os.symlink, "x", "/proc/self/root/usr/mine")
        fails([errno.EACCES, errno.EPERM], os.truncate, "/proc/self/cwd/etc/passwd", 0)
