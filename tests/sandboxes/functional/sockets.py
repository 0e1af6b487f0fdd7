"""Sockets: unix ones of every kind, TCP and UDP of both families, names."""

import array
import ctypes
import errno
import os
import socket
import stat
import struct
import threading
import traceback

from files import libc, read, said, write
from harness import check, equal, fails


def forked(work):
    """Runs `work` in a child; returns how to wait for it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os.write(writer, traceback.format_exc()[-2000:].encode())
        finally:
            os._exit(0)
    os.close(writer)

    def wait():
        with open(reader, "rb") as file:
            said = file.read().decode()
        equal((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said), (0, ""))

    return wait


def peer(connection):
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))


@check("unix datagrams", "root", "user")
def _():
    for name in ["here", os.path.abspath("there"), f"\0datagram-{os.getpid()}"]:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        server.bind(name)

        def client():
            own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            own.bind(f"{name}-client")
            own.sendto(b"question", name)
            equal(own.recv(20), b"answer")

        wait = forked(client)
        text, sender = server.recvfrom(20)
        equal(text, b"question")
        equal(sender.decode() if isinstance(sender, bytes) else sender, f"{name}-client")
        server.sendto(b"answer", sender)
        wait()


@check("unix sockets that keep messages apart", "root", "user")
def _():
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind("packets")
    server.listen()

    def client():
        own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.connect("packets")
        own.send(b"one"), own.send(b"two")

    wait = forked(client)
    connection, _ = server.accept()
    equal((connection.recv(20), connection.recv(20)), (b"one", b"two"))
    wait()
    os.unlink("packets")
    late = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fails([errno.ENOENT], late.connect, "packets")


@check("unix sockets: who may connect, and names in use", "root", "user")
def _():
    server = socket.socket(socket.AF_UNIX)
    server.bind("socket")
    other = socket.socket(socket.AF_UNIX)
    fails([errno.EADDRINUSE], other.bind, "socket")
    fails([errno.ECONNREFUSED], other.connect, "socket")
    server.listen()
    os.mkdir("d")
    os.symlink("../socket", "d/link")
    other.connect("d/link")
    connection, _ = server.accept()
    equal(connection.getsockname(), "socket")
    equal(peer(other)[1:], (os.getuid(), os.getgid()))
    equal(stat.S_ISSOCK(os.stat("d/link").st_mode), True)
    long = socket.socket(socket.AF_UNIX)
    os.makedirs("n" * 90 + "/" + "n" * 90)
    os.chdir("n" * 90 + "/" + "n" * 90)
    long.bind("short")
    assert stat.S_ISSOCK(os.stat("short").st_mode)


@check("descriptors sent over sockets", "root", "user")
def _():
    one, two = socket.socketpair()
    write("sent", "by descriptor")

    def sender():
        two.close()
        held = [os.open(path, os.O_RDONLY) for path in ["sent", "/dev/zero", ".", "/proc/self/comm"]]
        held.append(os.memfd_create("memory"))
        os.write(held[-1], b"in memory")
        socket.send_fds(one, [b"five"], held)

    wait = forked(sender)
    one.close()
    text, (file, zero, here, comm, memory), _, _ = socket.recv_fds(two, 10, 8)
    equal(text, b"five")
    equal((os.read(file, 20), os.read(zero, 3)), (b"by descriptor", b"\0\0\0"))
    assert "sent" in os.listdir(here)
    equal(os.read(comm, 20), b"python3\n")
    equal(os.pread(memory, 20, 0), b"in memory")
    equal(open(f"/proc/self/fd/{memory}").read(), "in memory")
    wait()


@check("abstract sockets are names of their own", "root", "user")
def _():
    name = f"\0abstract-{os.getpid()}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    server.listen()
    fails([errno.EADDRINUSE], socket.socket(socket.AF_UNIX).bind, name)

    def client():
        own = socket.socket(socket.AF_UNIX)
        own.connect(name)
        equal(peer(own)[1:], (os.getuid(), os.getgid()))
        equal(own.recv(9), b"hello")

    wait = forked(client)
    connection, _ = server.accept()
    connection.send(b"hello")
    wait()
    server.close()
    fails([errno.ECONNREFUSED], socket.socket(socket.AF_UNIX).connect, name)


@check("IPv6 on the loopback", "root", "user")
def _():
    if not os.path.exists("/proc/self/net/if_inet6") or not read("/proc/self/net/if_inet6"):
        return
    server = socket.create_server(("::1", 0), family=socket.AF_INET6)

    def client():
        with socket.create_connection(server.getsockname()[:2], timeout=5) as own:
            own.sendall(b"six")

    wait = forked(client)
    connection, address = server.accept()
    equal((connection.recv(9), address[0]), (b"six", "::1"))
    wait()
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.bind(("::1", 0))
    udp.sendto(b"datagram", udp.getsockname())
    equal(udp.recv(20), b"datagram")


@check("TCP: refused, in use, options, half closed", "root", "user")
def _():
    server = socket.create_server(("127.0.0.1", 0))
    address = server.getsockname()
    fails([errno.EADDRINUSE], socket.create_server, address)
    client = socket.create_connection(address, timeout=5)
    connection, _ = server.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.sendall(b"asked")
    client.shutdown(socket.SHUT_WR)
    equal((connection.recv(9), connection.recv(9)), (b"asked", b""))
    connection.sendall(b"told")
    equal(client.recv(9), b"told")
    server.close(), connection.close(), client.close()
    fails([errno.ECONNREFUSED], socket.create_connection, address, 5)


class Names(threading.Thread):
    """A name server on the loopback that knows one name."""

    def __init__(self):
        super().__init__(daemon=True)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.asked = []

    def run(self):
        while True:
            query, sender = self.udp.recvfrom(4096)
            name, at = [], 12
            while query[at]:
                name.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            kind = struct.unpack_from(">H", query, at + 1)[0]
            question = query[12 : at + 5]
            self.asked.append((".".join(name), kind))
            known = ".".join(name) == "inside.example"
            answers = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 60, 4, 192, 0, 2, 9) if known and kind == 1 else b""
            flags = 0x8180 if known else 0x8183
            header = query[:2] + struct.pack(">5H", flags, 1, bool(answers), 0, 0)
            self.udp.sendto(header + question + answers, sender)


@check("DNS over the loopback", "root", "user")
def _():
    server = Names()
    server.start()
    address, port = server.udp.getsockname()
    # Port 53 is not everybody's, and resolv.conf names no other: the resolver's
    # state is told (struct __res_state of resolv.h).
    getattr(libc, "__res_init")()
    state = getattr(libc, "__res_state")
    state.restype = ctypes.c_void_p
    where = state()
    ctypes.memmove(where + 16, struct.pack("i", 1), 4)
    ctypes.memmove(where + 20, struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8), 16)
    found = {entry[4][0] for entry in socket.getaddrinfo("inside.example", 80, socket.AF_INET)}
    equal(found, {"192.0.2.9"})
    assert ("inside.example", 1) in server.asked, server.asked
    fails([socket.EAI_NONAME, socket.EAI_NODATA], socket.getaddrinfo, "outside.example", 80, socket.AF_INET)


@check("names by the hosts file", "root", "user")
def _():
    hosts = read("/etc/hosts")
    assert "127.0.0.1" in hosts and "given.example" in hosts, hosts
    equal(socket.gethostbyname("localhost"), "127.0.0.1")
    equal(socket.gethostbyname("given.example"), "192.0.2.7")
    lines = [line.split()[0] for line in read("/etc/resolv.conf").splitlines() if line.split()]
    known = {"nameserver", "search", "domain", "options", "sortlist", "#", ";"}
    equal([word for word in lines if word not in known and word[0] not in "#;"], [])


@check("many sockets at once", "root", "user")
def _():
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    clients = [socket.create_connection(server.getsockname(), timeout=5) for _ in range(60)]
    connections = [server.accept()[0] for _ in clients]
    for number, client in enumerate(clients):
        client.sendall(struct.pack("i", number))
    got = sorted(struct.unpack("i", connection.recv(4))[0] for connection in connections)
    equal(got, list(range(60)))
