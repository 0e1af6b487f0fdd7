"""What isolation costs, rung by rung, beside a plain chroot and proot; called by
overhead.sh. Processor time is that of every process of the build between two
marks that the RUN itself sets, so the supervisor counts, and unpacking the base,
looking for changes and compressing layers do not. Standard library only."""

import contextlib
import functools
import http.server
import io
import json
import os
import shutil
import socketserver
import statistics
import subprocess
import sys
import tarfile
import threading
import time

WORK, TOP, POOL, HOST, SANDBOXES = sys.argv[1:6]
NUMBERS = {name: int(os.environ.get(f"OVERHEAD_{name}") or default)
           for name, default in [("FILES", 20_000), ("COMPILES", 50), ("FORKS", 500), ("TREE", 100_000), ("ROUNDS", 3)]}
# A sandbox for each rung.
RUNGS = {"namespaces": "podman-default", "mounts": "docker-admin", "single": "rootless-nnp", "chroot": "docker-default"}
STEPS = ["apt", "untar", "compile", "forks"]
SHOWN = {"apt": "apt install gcc", "untar": f"untar {NUMBERS['FILES']} files",
         "compile": f"{NUMBERS['COMPILES']} compiles", "forks": f"{NUMBERS['FORKS']} forks"}
MOST_APT, MOST_SCAN = 1.3, 0.5
# Of the file system that each way gets, in bytes; the file is sparse.
VOLUME_SIZE = 16 << 30
TICKS = os.sysconf("SC_CLK_TCK")


def main():
    marks = Marks()
    scripts = write_scripts(marks.port, serve_packages())
    write_archive(scripts)
    ways = {"native": native, **{rung: functools.partial(coracle, rung) for rung in RUNGS}}
    if shutil.which("proot"):
        ways["proot"] = proot
    found = {way: [] for way in ways}
    for number in range(NUMBERS["ROUNDS"]):
        # Whoever comes first has the coldest machine: each in turn.
        turn = number % len(ways)
        for way, run in (list(ways.items()) * 2)[turn:turn + len(ways)]:
            if found[way] is None:
                continue
            with volume() as place:
                times = marks.during(lambda root: run(scripts, place, root))
            found[way] = found[way] + [times] if times else None
            log(f"round {number + 1} {way:11} " + ("failed" if not times else
                "  ".join(f"{step} {cpu:.2f} ({wall:.2f})" for step, (cpu, wall) in times.items())))
    report(found, scan())


class Marks:
    """Listens for `start NAME` and `stop NAME`, and adds up the processor time of
    everything below the process that is being measured."""

    def __init__(self):
        marks = self

        class Mark(socketserver.StreamRequestHandler):
            def handle(self):
                word, name = self.rfile.readline().decode().split()
                marks.seen.setdefault(name, {})[word] = (processor_time(marks.root), time.monotonic())
                self.wfile.write(b"go\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mark)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def during(self, run):
        """Processor and elapsed seconds of each step, none if it failed."""
        self.seen, self.root = {}, None

        def follow(pid):
            self.root = pid

        if not run(follow):
            return None
        return {name: tuple(stop - start for start, stop in zip(seen["start"], seen["stop"]))
                for name, seen in self.seen.items()}


def processor_time(root):
    """Seconds of the process, its descendants, and those of them that were waited
    for (proc_pid_stat(5), fields 14 to 17)."""
    total, pending = 0, [root]
    while pending:
        pid = pending.pop()
        try:
            with open(f"/proc/{pid}/stat") as stat:
                total += sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:15])
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as listed:
                    pending += [int(child) for child in listed.read().split()]
        except OSError:
            # It ended while it was looked at; its parent has its time.
            continue
    return total / TICKS


def started(follow, command, **named):
    with open(f"{WORK}/log", "wb") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **named)
        follow(child.pid)
        code = child.wait()
    if code:
        with open(f"{WORK}/log", errors="replace") as text:
            log(f"{' '.join(command[:4])}…: {code}:\n{text.read()[-1500:]}")
    return code == 0


def write_scripts(port, packages):
    scripts = f"{WORK}/scripts"
    shutil.copytree(f"{TOP}/bench/overhead", scripts)
    with open(f"{scripts}/settings", "w") as out:
        out.write("".join(f"{name}={value}\n" for name, value in {**NUMBERS, "PORT": port}.items()))
    with open(f"{TOP}/tests/sandboxes/apt/conf") as conf, open(f"{scripts}/apt.conf", "w") as out:
        out.write(conf.read().replace('"/apt/', '"/scripts/'))
    with open(f"{scripts}/list", "w") as out:
        out.write(f"deb [trusted=yes] http://127.0.0.1:{packages}/ ./\n")
    return scripts


def serve_packages():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=f"{POOL}/packages"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def write_archive(scripts):
    """What is unpacked: made here, so that nobody has just made and removed the
    same files on the volume that it is unpacked to."""
    os.mkdir(f"{scripts}/archive")
    with tarfile.open(f"{scripts}/archive/made.tar", "w", format=tarfile.GNU_FORMAT) as out:
        for number in range(NUMBERS["FILES"]):
            directory, file = divmod(number, 100)
            if file == 0:
                entry = tarfile.TarInfo(f"made/{directory}")
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                out.addfile(entry)
            text = f"file {file} of directory {directory}\n".encode()
            entry = tarfile.TarInfo(f"made/{directory}/{file}")
            entry.size, entry.mode = len(text), 0o644
            out.addfile(entry, io.BytesIO(text))


@contextlib.contextmanager
def volume():
    """A new file system for one way, thrown away as a whole: on one that is used
    again ext4 makes files slowly for minutes after many were removed. Its loop
    device is a kernel thread's work, and nobody's here."""
    image, place = f"{WORK}/volume.img", f"{WORK}/volume"
    with open(image, "wb") as out:
        out.truncate(VOLUME_SIZE)
    os.makedirs(place, exist_ok=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    # What mkfs left to do later is not done meanwhile.
    subprocess.run(["mount", "-o", "loop,noinit_itable", image, place], check=True)
    try:
        os.chmod(place, 0o755)
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        os.remove(image)


def dockerfile(context, lines):
    os.makedirs(context, exist_ok=True)
    with open(f"{context}/Dockerfile", "w") as out:
        out.write("\n".join(lines) + "\n")


def coracle(rung, scripts, place, follow):
    context = f"{WORK}/context-{rung}"
    shutil.rmtree(context, ignore_errors=True)
    dockerfile(context, [f"FROM {HOST}/debian:latest"] + [
        f"RUN --mount=type=bind,source=scripts,target=/scripts bash /scripts/{step}.sh" for step in STEPS])
    shutil.copytree(scripts, f"{context}/scripts")
    return build(rung, context, place, follow)


def build(rung, context, place, follow=lambda pid: None):
    state = f"{place}/state"
    os.mkdir(state, 0o755)
    owner = 1000 if rung == "single" else 0
    os.chown(state, owner, owner)
    command = [SANDBOXES, "run", RUNGS[rung], state, context, "coracle", "build", "--progress", "plain",
               "--isolation", rung, "-t", "overhead", "/context"]
    return started(follow, command)


def unpacked(scripts, place):
    root = f"{place}/root"
    os.makedirs(root)
    layout = f"{POOL}/debian"
    blob = lambda digest: os.path.join(layout, "blobs", *digest.split(":"))
    manifest = json.load(open(blob(json.load(open(f"{layout}/index.json"))["manifests"][0]["digest"])))
    for layer in manifest["layers"]:
        subprocess.run(["tar", "-xpzf", blob(layer["digest"]), "--numeric-owner", "-C", root], check=True)
    shutil.copytree(scripts, f"{root}/scripts")
    return root


ENVIRONMENT = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
ALL = "set -e; " + "; ".join(f"bash /scripts/{step}.sh" for step in STEPS)


def native(scripts, place, follow):
    """chroot(1) as root, with /proc and /dev mounted."""
    root = unpacked(scripts, place)
    mounts = f"mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev"
    inner = " ".join([*ENVIRONMENT, "bash", "-c", f'"{ALL}"'])
    return started(follow, ["unshare", "--mount", "sh", "-c", f"{mounts} && exec chroot {root} {inner}"])


def proot(scripts, place, follow):
    root = unpacked(scripts, place)
    return started(follow, ["proot", "-0", "-r", root, "-b", "/proc", "-b", "/dev", "-w", "/",
                            "/usr/bin/" + ENVIRONMENT[0], *ENVIRONMENT[1:], "bash", "-c", ALL])


def scan():
    """Processor seconds that one more step costs on the rung `chroot` when its tree
    has so many entries: what six steps take more than one, by five."""
    tree()
    seconds = []
    for steps in [1, 6]:
        context = f"{WORK}/context-tree-{steps}"
        dockerfile(context, [f"FROM {HOST}/tree:latest"] + [f"RUN [\"/bin/sh\", \"-c\", \": {n}\"]" for n in range(steps)])
        with volume() as place:
            before = os.times()
            worked = build("chroot", context, place)
            after = os.times()
        if not worked:
            return None
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    log(f"a tree of {NUMBERS['TREE']}: {seconds[0]:.2f} s with one step, {seconds[1]:.2f} s with six")
    return (seconds[1] - seconds[0]) / 5


def tree():
    path = f"{WORK}/tree.tar"
    with tarfile.open(path, "w") as out:
        for name in ["bin", "proc", "dev", "etc", "tmp", "tree"]:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            out.addfile(entry)
        out.add(next(path for path in ["/bin/busybox", "/usr/bin/busybox"] if os.path.exists(path)), "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        out.addfile(link)
        for number in range(NUMBERS["TREE"] // 100):
            entry = tarfile.TarInfo(f"tree/{number}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            out.addfile(entry)
            for file in range(99):
                out.addfile(tarfile.TarInfo(f"tree/{number}/{file}"))
    script = f"""
        set -e
        . {TOP}/ci-examples/loopback.sh
        oci_image {WORK}/tree latest {path} '["PATH=/bin"]' '["sh"]'
        skopeo copy --quiet --insecure-policy --dest-tls-verify=false oci:{WORK}/tree:latest docker://{HOST}/tree:latest
    """
    subprocess.run(["bash", "-c", script], check=True, stdout=sys.stderr)


def report(found, scanned):
    ways = list(found)
    lines = ["# Overhead", "",
             f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, kernel {os.uname().release}; median of "
             f"{NUMBERS['ROUNDS']}, each on a new file system; made by `bench/overhead.sh`.",
             "Processor seconds of everything that runs, the supervisor with it, and elapsed seconds in brackets.",
             "", "| | " + " | ".join(ways) + " |", "|---" * (len(ways) + 1) + "|"]
    median = {}
    for step, title in SHOWN.items():
        cells = []
        for way in ways:
            if not found[way]:
                cells.append("failed")
                continue
            cpu, wall = (statistics.median(times[step][part] for times in found[way]) for part in (0, 1))
            median[way, step] = cpu
            cells.append(f"{cpu:.2f} ({wall:.2f})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    missed = []
    lines.append("")
    if ("chroot", "apt") in median and ("native", "apt") in median:
        share = median["chroot", "apt"] / median["native", "apt"]
        lines.append(f"apt on `chroot` takes {share:.2f} of native processor time; {MOST_APT} is allowed.")
        missed += [f"apt takes {share:.2f} of native on chroot"] if share > MOST_APT else []
    else:
        missed.append("apt failed")
    if scanned is None:
        missed.append("the scan failed")
    else:
        lines.append(f"\nOne more step on a tree of {NUMBERS['TREE']} entries, which is scanned for changes: "
                     f"{scanned:.2f} s of processor time; {MOST_SCAN} is allowed.")
        missed += [f"the scan takes {scanned:.2f} s"] if scanned > MOST_SCAN else []
    text = "\n".join(lines) + "\n"
    os.makedirs(f"{TOP}/bench/results", exist_ok=True)
    with open(f"{TOP}/bench/results/overhead.md", "w") as out:
        out.write(text)
    print(text)
    if missed:
        sys.exit("; ".join(missed))


def log(line):
    print(line, file=sys.stderr, flush=True)


main()
