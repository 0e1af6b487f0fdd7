"""What processes share: locks, memory, semaphores, queues."""

import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import struct
import time

from files import call, libc, read, write
from harness import check, equal, fails
from sockets import forked

WRITE, READ, UNLOCK = fcntl.F_WRLCK, fcntl.F_RDLCK, fcntl.F_UNLCK


def lock(descriptor, how, kind, start=0, length=0):
    """fcntl(2) locks by `struct flock`; returns what is told."""
    wanted = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    return struct.unpack("hhqqi4x", fcntl.fcntl(descriptor, how, wanted))


@check("locks of a part of a file", "root", "user")
def _():
    write("f", "x" * 100)
    own = os.open("f", os.O_RDWR)
    lock(own, fcntl.F_SETLK, WRITE, 10, 10)
    holder = os.getpid()

    def other():
        there = os.open("f", os.O_RDWR)
        lock(there, fcntl.F_SETLK, WRITE, 30, 10)
        fails([errno.EAGAIN, errno.EACCES], lock, there, fcntl.F_SETLK, READ, 15, 1)
        kind, _, start, length, pid = lock(there, fcntl.F_GETLK, WRITE, 0, 100)
        equal((kind, start, length, pid), (WRITE, 10, 10, holder))

    forked(other)()
    # The other's went with it.
    lock(own, fcntl.F_SETLK, WRITE, 0, 100)


@check("locks of an open file, across fork", "root", "user")
def _():
    write("f")
    own, again = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
    lock(own, fcntl.F_OFD_SETLK, WRITE)
    fails([errno.EAGAIN], lock, again, fcntl.F_OFD_SETLK, WRITE)

    def other():
        lock(own, fcntl.F_OFD_SETLK, WRITE)
        fails([errno.EAGAIN], lock, again, fcntl.F_OFD_SETLK, READ)
        fails([errno.EAGAIN], lock, os.open("f", os.O_RDWR), fcntl.F_OFD_SETLK, WRITE)

    forked(other)()
    lock(own, fcntl.F_OFD_SETLK, UNLOCK)
    lock(again, fcntl.F_OFD_SETLK, READ)
    lock(own, fcntl.F_OFD_SETLK, READ)


@check("waiting for a lock", "root", "user")
def _():
    write("f")
    for take in [fcntl.flock, fcntl.lockf]:
        own = os.open("f", os.O_RDWR)
        take(own, fcntl.LOCK_EX)
        reader, writer = os.pipe()

        def other():
            there = os.open("f", os.O_RDWR)
            os.write(writer, b"w")
            take(there, fcntl.LOCK_EX)
            os.write(writer, b"g")

        wait = forked(other)
        equal(os.read(reader, 1), b"w")
        time.sleep(0.1)
        os.set_blocking(reader, False)
        fails([errno.EAGAIN], os.read, reader, 1)
        os.set_blocking(reader, True)
        take(own, fcntl.LOCK_UN)
        equal(os.read(reader, 1), b"g")
        wait()


@check("locks of programs", "root", "user")
def _():
    os.mkdir("lock")
    fails([errno.EEXIST], os.mkdir, "lock")
    os.close(os.open("pid", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    fails([errno.EEXIST], os.open, "pid", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    for count in range(5):
        forked(lambda: fcntl.lockf(os.open("pid", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))()


@check("POSIX shared memory by name", "root", "user")
def _():
    name = f"/named-{os.getpid()}".encode()
    own = call("shm_open", name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    os.ftruncate(own, 8192)
    area = mmap.mmap(own, 8192)

    def other():
        there = mmap.mmap(call("shm_open", name, os.O_RDWR, 0), 8192)
        there[4096:4101] = b"there"

    forked(other)()
    equal(area[4096:4101], b"there")
    fails([errno.EEXIST], call, "shm_open", name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    call("shm_unlink", name)
    fails([errno.ENOENT], call, "shm_open", name, os.O_RDWR, 0)
    equal(area[4096:4101], b"there")


@check("POSIX semaphores by name", "root", "user")
def _():
    name = f"/semaphore-{os.getpid()}".encode()
    libc.sem_open.restype = ctypes.c_void_p
    own = libc.sem_open(name, os.O_CREAT | os.O_EXCL, 0o600, 0)
    assert own, os.strerror(ctypes.get_errno())
    semaphore = ctypes.c_void_p(own)
    fails([errno.EAGAIN], call, "sem_trywait", semaphore)

    def other():
        there = libc.sem_open(name, 0)
        assert there
        time.sleep(0.05)
        call("sem_post", ctypes.c_void_p(there))

    wait = forked(other)
    call("sem_wait", semaphore)
    wait()
    call("sem_unlink", name)
    assert not libc.sem_open(name, 0)


@check("System V shared memory by key", "root", "user")
def _():
    libc.shmat.restype = ctypes.c_void_p
    key = 0x436F7261 + os.getuid()
    fails([errno.ENOENT], call, "shmget", key, 4096, 0o600)
    own = call("shmget", key, 4096, 0o3600)
    fails([errno.EEXIST], call, "shmget", key, 4096, 0o3600)
    equal(call("shmget", key, 4096, 0o1600), own)
    fails([errno.EINVAL], call, "shmget", key, 1 << 20, 0)

    def other():
        equal(call("shmget", key, 0, 0), own)
        there = libc.shmat(own, None, 0)
        ctypes.memmove(there, b"by key", 6)
        call("shmdt", ctypes.c_void_p(there))

    forked(other)()
    equal(ctypes.string_at(libc.shmat(own, None, 0o10000), 6), b"by key")
    call("shmctl", own, 0, None)
    fails([errno.ENOENT], call, "shmget", key, 0, 0)
    again = call("shmget", key, 100, 0o1600)
    call("shmctl", again, 0, None)


@check("whose System V objects are", "root", "user")
def _():
    own = call("shmget", 0, 4096, 0o1600)
    status = ctypes.create_string_buffer(256)
    call("shmctl", own, 2, status)
    equal(struct.unpack_from("4xII", status), (os.getuid(), os.getgid()))
    call("shmctl", own, 0, None)


@check("System V semaphores and queues by key", "root", "user")
def _():
    key = 0x436F7261 + os.getuid()
    own = call("semget", key, 2, 0o3600)
    equal(call("semget", key, 0, 0), own)
    call("semctl", own, 1, 16, 0)

    def other():
        time.sleep(0.05)
        call("semop", own, struct.pack("Hhh", 1, 1, 0), 1)

    wait = forked(other)
    call("semop", own, struct.pack("Hhh", 1, -1, 0), 1)
    wait()
    call("semctl", own, 0, 0)
    fails([errno.EINVAL, errno.EIDRM], call, "semop", own, struct.pack("Hhh", 1, 1, 0), 1)
    queue = call("msgget", key, 0o3600)
    forked(lambda: call("msgsnd", call("msgget", key, 0), struct.pack("l5s", 7, b"words"), 5, 0))()
    buffer = ctypes.create_string_buffer(64)
    equal(call("msgrcv", queue, buffer, 56, 7, 0), 5)
    equal(buffer.raw[8:13], b"words")
    call("msgctl", queue, 0, None)
    fails([errno.ENOENT], call, "msgget", key, 0)


@check("POSIX message queues", "root", "user")
def _():
    name = f"/queue-{os.getpid()}".encode()
    attributes = struct.pack("8l", 0, 4, 64, 0, 0, 0, 0, 0)
    own = call("mq_open", name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, attributes)
    fails([errno.EEXIST], call, "mq_open", name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, None)
    forked(lambda: call("mq_send", call("mq_open", name, os.O_WRONLY), b"queued", 6, 3))()
    buffer = ctypes.create_string_buffer(64)
    equal((call("mq_receive", own, buffer, 64, None), buffer.value), (6, b"queued"))
    call("mq_unlink", name)
    fails([errno.ENOENT], call, "mq_open", name, os.O_RDWR)


@check("mapped files are one memory", "root", "user")
def _():
    write("f", "a" * 8192)
    own = mmap.mmap(os.open("f", os.O_RDWR), 8192)
    private = mmap.mmap(os.open("f", os.O_RDWR), 8192, flags=mmap.MAP_PRIVATE)
    private[:1] = b"p"

    def other():
        there = mmap.mmap(os.open("f", os.O_RDWR), 8192)
        there[4096:4100] = b"over"
        there.flush()

    forked(other)()
    equal((own[4096:4100], own[:1]), (b"over", b"a"))
    own[:4] = b"here"
    equal(read("f")[:4], "here")
    with open("f", "r+b") as file:
        file.write(b"plain")
    equal(own[:5], b"plain")


@check("pools and queues of Python", "root", "user")
def _():
    with multiprocessing.get_context("fork").Pool(3) as pool:
        equal(pool.map(abs, range(-20, 0)), list(range(20, 0, -1)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        equal(pool.map(abs, [-1, -2]), [1, 2])
    with multiprocessing.Manager() as manager:
        shared = manager.dict(a=1)
        equal(shared["a"], 1)
