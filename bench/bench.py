"""coracle and Debian's buildah, side by side: build and push to a loopback
registry over plain HTTP, interleaved, median of several rounds.

Phases: cold (no local state, an empty target repository), unchanged, one file
changed. Memory is the peak of the summed resident size of the builder's own
processes; whatever runs inside a RUN is left out. Standard library only.
"""

import functools
import http.server
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

from workloads import SOAK, WORKLOADS

WORK = sys.argv[1]
SOAKING = "--soak" in sys.argv
ONLY_BUILDAH = "--only-buildah" in sys.argv
ROUNDS = 1 if SOAKING else int(os.environ.get("BENCH_ROUNDS") or 3)
PHASES = ["cold", "unchanged", "one file"]
CACHE = os.path.expanduser("~/.cache/coracle-demo")
# 5 % counts as equal: the noise of such a machine.
EQUAL = 1.05
SOAK_LIMIT_MIB = 150


def main():
    known = SOAK if SOAKING else WORKLOADS
    wanted = [name for name in (os.environ.get("BENCH_WORKLOADS") or ",".join(known)).split(",") if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"unknown workloads {unknown}; known: {', '.join(known)}")
    tools = [Buildah()] if ONLY_BUILDAH else [Coracle(), Buildah()]
    if SOAKING:
        tools = [Coracle()]
    registry = Registry()
    results = {}
    try:
        for name in wanted:
            results[name] = measure(known[name], tools, registry)
    finally:
        registry.stop()
    report(results, tools)


def measure(workload, tools, registry):
    """Per tool and phase: seconds and peak bytes of every round."""
    context = f"{WORK}/context-{workload.name}"
    workload.prepare(context)
    values = {"HOST": registry.host}
    packages = Packages() if "PACKAGES" in workload.arguments else None
    if packages:
        values["PACKAGES"] = packages.url
    found = {tool.name: {phase: [] for phase in PHASES} for tool in tools}
    turn = 0
    for number in range(ROUNDS):
        # Who goes first alternates, so that a warm page cache favours nobody.
        for tool in tools if number % 2 == 0 else tools[::-1]:
            tool.reset()
            target = f"{registry.host}/bench/{workload.name}-{tool.name}-{number}:latest"
            for phase in PHASES:
                if phase == "one file":
                    turn += 1
                    workload.change(context, turn)
                seconds, peak = timed(tool, context, target, values)
                found[tool.name][phase].append((seconds, peak))
                log(f"{workload.name:8} round {number + 1} {tool.name:8} {phase:10} {seconds:8.2f} s {peak >> 20:6} MiB")
        registry.forget()
    if packages:
        packages.stop()
    for tool in tools:
        tool.reset()
    shutil.rmtree(context)
    return found


def timed(tool, context, target, values):
    sampler = Sampler()
    started = time.monotonic()
    for command in tool.commands(context, target, values):
        with open(f"{WORK}/log", "wb") as out:
            child = subprocess.Popen(command, env=tool.environment(), stdout=out, stderr=subprocess.STDOUT)
        sampler.follow(child.pid)
        if child.wait() != 0:
            sampler.stop()
            with open(f"{WORK}/log", errors="replace") as text:
                sys.exit(f"{' '.join(command)} failed:\n{text.read()[-4000:]}")
    seconds = time.monotonic() - started
    return seconds, sampler.stop()


class Coracle:
    name = "coracle"

    def commands(self, context, target, values):
        arguments = [part for name, value in values.items() for part in ("--build-arg", f"{name}={value}")]
        yield [f"{WORK}/coracle", "build", "--progress", "plain", "-t", target, "--push", *arguments, context]

    def environment(self):
        return {**os.environ, "CORACLE_STATE_DIR": f"{WORK}/state"}

    def reset(self):
        remove(f"{WORK}/state")


class Buildah:
    name = "buildah"

    def __init__(self):
        os.makedirs(f"{WORK}/xdg", mode=0o700, exist_ok=True)
        self.base = ["buildah", "--root", f"{WORK}/buildah", "--runroot", f"{WORK}/buildah-run",
                     "--storage-driver", "overlay"]

    def commands(self, context, target, values):
        arguments = [part for name, value in values.items() for part in ("--build-arg", f"{name}={value}")]
        yield [*self.base, "bud", "--layers", "--isolation", "chroot", "--tls-verify=false", "-t", target,
               *arguments, context]
        yield [*self.base, "push", "--tls-verify=false", target]

    def environment(self):
        return {**os.environ, "XDG_RUNTIME_DIR": f"{WORK}/xdg"}

    def reset(self):
        subprocess.run(["buildah", "unshare", "rm", "-rf", f"{WORK}/buildah", f"{WORK}/buildah-run"], check=True,
                       env=self.environment())


def remove(path):
    """Trees of a user namespace belong to ids that only it can remove."""
    if os.path.exists(path):
        subprocess.run(["buildah", "unshare", "rm", "-rf", path], check=True)


class Sampler:
    """Adds up VmRSS of a process and its descendants every 20 ms. A process in
    another pid namespace than its builder belongs to a RUN and is left out."""

    def __init__(self):
        self.peak = 0
        self.root = None
        self.running = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def follow(self, pid):
        self.root = pid

    def stop(self):
        self.running = False
        self.thread.join()
        return self.peak

    def run(self):
        while self.running:
            if self.root:
                self.peak = max(self.peak, self.total(self.root))
            time.sleep(0.02)

    def total(self, root):
        total, pending = 0, [root]
        while pending:
            pid = pending.pop()
            try:
                with open(f"/proc/{pid}/status") as status:
                    fields = dict(line.split(":", 1) for line in status if ":" in line)
                if in_a_run(pid, fields):
                    continue
                total += int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
                pending += children(pid)
            except (OSError, ValueError):
                # It ended while it was looked at.
                continue
        return total


def children(pid):
    """Each thread lists the processes it started (proc_pid_task_children(5)):
    only the builder's own tree is read, which costs the builds next to nothing."""
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as listed:
            found += [int(child) for child in listed.read().split()]
    return found


def in_a_run(pid, fields):
    """NSpid has a further number inside a new pid namespace. buildah's chroot
    isolation has none: there a changed root tells."""
    if len(fields.get("NSpid", "").split()) > 1:
        return True
    try:
        return os.readlink(f"/proc/{pid}/root") != "/"
    except OSError:
        return False


class Registry:
    """Debian's docker-registry on loopback with both bases in it."""

    def __init__(self):
        script = f"""
            set -e
            . {WORK}/loopback.sh
            base_layout {CACHE} debian >&2
            base_layout {CACHE} busybox >&2
            port=$(free_port)
            start_registry {WORK}/registry $port
            for base in debian busybox; do
                skopeo copy --quiet --insecure-policy --dest-tls-verify=false \\
                    oci:{CACHE}/$base:latest docker://127.0.0.1:$port/$base:latest >&2
            done
            echo "127.0.0.1:$port $REGISTRY_PID"
        """
        said = subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.PIPE, text=True)
        self.host, pid = said.stdout.split()
        self.pid = int(pid)

    def forget(self):
        """Drops what was pushed, so that the next round uploads again."""
        repositories = f"{WORK}/registry/storage/docker/registry/v2/repositories/bench"
        shutil.rmtree(repositories, ignore_errors=True)

    def stop(self):
        os.kill(self.pid, 15)


class Packages:
    """build-essential and all it needs as a flat repository on loopback."""

    def __init__(self):
        self.directory = f"{CACHE}/packages"
        if not os.path.exists(f"{self.directory}/Packages"):
            self.fetch()
        handler = functools.partial(Quiet, directory=self.directory)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fetch(self):
        """Resolves against an empty system, as an ordinary user, with this
        machine's sources: nothing of the host's apt state is touched."""
        new = f"{self.directory}.new"
        shutil.rmtree(new, ignore_errors=True)
        for part in ["state/lists/partial", "cache/archives/partial"]:
            os.makedirs(f"{new}/{part}")
        open(f"{new}/status", "w").close()
        # The host's hooks would clean the host's cache, not this one.
        with open(f"{new}/apt.conf", "w") as conf:
            conf.write("#clear APT::Update::Post-Invoke;\n#clear DPkg::Post-Invoke;\n")
        environment = {**os.environ, "APT_CONFIG": f"{new}/apt.conf"}
        options = [f"Dir::State={new}/state", f"Dir::State::status={new}/status", f"Dir::Cache={new}/cache",
                   "Debug::NoLocking=1", "APT::Sandbox::User="]
        flags = [part for option in options for part in ("-o", option)]
        subprocess.run(["apt-get", *flags, "-qq", "update"], check=True, stdout=sys.stderr,
                       env=environment)
        subprocess.run(["apt-get", *flags, "-qq", "-y", "--no-install-recommends", "--download-only", "install",
                        "build-essential"], check=True, stdout=sys.stderr, env=environment)
        archives = f"{new}/cache/archives"
        with open(f"{archives}/Packages", "w") as index:
            for name in sorted(os.listdir(archives)):
                if name.endswith(".deb"):
                    index.write(stanza(f"{archives}/{name}", name))
        shutil.rmtree(self.directory, ignore_errors=True)
        os.rename(archives, self.directory)
        shutil.rmtree(new)

    def stop(self):
        self.server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def stanza(path, name):
    said = subprocess.run(["dpkg-deb", "-f", path], check=True, stdout=subprocess.PIPE, text=True).stdout
    digest = subprocess.run(["sha256sum", path], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[0]
    return f"{said.rstrip()}\nFilename: ./{name}\nSize: {os.path.getsize(path)}\nSHA256: {digest}\n\n"


def report(results, tools):
    lines = [f"# {'Soak' if SOAKING else 'Side by side'}", "",
             f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, kernel {os.uname().release}; "
             f"median of {ROUNDS}; build and push, seconds; peak memory of the builder's own processes.", ""]
    names = [tool.name for tool in tools]
    compare = len(names) == 2
    head = ["workload", "phase", *names, *(["share"] if compare else []), *[f"{name} MiB" for name in names]]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    slower, heavy = [], []
    for name, found in results.items():
        for phase in PHASES:
            seconds = [statistics.median(second for second, _ in found[tool][phase]) for tool in names]
            peaks = [max(peak for _, peak in found[tool][phase]) >> 20 for tool in names]
            row = [name, phase, *[f"{value:.2f}" for value in seconds]]
            if compare:
                row.append(f"{seconds[0] / seconds[1]:.2f}")
                if seconds[0] > seconds[1] * EQUAL:
                    slower.append(f"{name} {phase}")
            if SOAKING and peaks[0] >= SOAK_LIMIT_MIB:
                heavy.append(f"{name} {phase}: {peaks[0]} MiB, {SOAK_LIMIT_MIB} allowed")
            lines.append("| " + " | ".join([*row, *map(str, peaks)]) + " |")
    if compare:
        lines += ["", f"Slower than buildah: {', '.join(slower) if slower else 'nowhere'}."]
    os.makedirs(f"{WORK}/results", exist_ok=True)
    name = "soak" if SOAKING else "side-by-side" if compare else "buildah"
    text = "\n".join(lines) + "\n"
    with open(f"{WORK}/results/{name}.md", "w") as out:
        out.write(text)
    print(text)
    if heavy:
        sys.exit("\n".join(heavy))


def log(line):
    print(line, file=sys.stderr, flush=True)


main()
