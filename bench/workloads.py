"""The workloads: a context, a Dockerfile, and the one change between builds."""

import os
import random

MIB = 1 << 20


class Workload:
    """One context directory. `change` makes the one-file edit."""

    def __init__(self, name, prepare, change, arguments=()):
        self.name = name
        self.prepare = prepare
        self.change = change
        self.arguments = arguments


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb" if isinstance(content, bytes) else "w") as file:
        file.write(content)


def dockerfile(context, *lines):
    write(os.path.join(context, "Dockerfile"), "\n".join(lines) + "\n")


def append(name):
    def change(context, turn):
        with open(os.path.join(context, name), "a") as file:
            file.write(f"\n/* edit {turn} */\n")

    return change


def tiny(context):
    write(f"{context}/file", "one file\n")
    dockerfile(context, "ARG HOST", "FROM $HOST/busybox:latest", "COPY file /file", "ENV A=1", "LABEL a=b",
               'CMD ["cat", "/file"]')


def apt(context):
    write(f"{context}/main.c", '#include <stdio.h>\nint main(void) { puts("built"); }\n')
    dockerfile(context, "ARG HOST", "FROM $HOST/debian:latest", "ARG PACKAGES",
               "RUN rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* && "
               "echo \"deb [trusted=yes] $PACKAGES ./\" > /etc/apt/sources.list && apt-get update && "
               "apt-get install -y --no-install-recommends build-essential",
               "COPY main.c /main.c", "RUN gcc -o /main /main.c")


def many(context):
    random.seed(50_000)
    for directory in range(5_000):
        path = f"{context}/tree/{directory // 100:02}/{directory:04}"
        os.makedirs(path)
        for file in range(10):
            size = random.randrange(200, 3_800)
            with open(f"{path}/{file}.txt", "wb") as out:
                out.write(random.randbytes(size // 2).hex().encode())
    dockerfile(context, "ARG HOST", "FROM $HOST/busybox:latest", "COPY tree /tree",
               "RUN for i in 0 1 2 3 4 5 6 7 8 9; do echo touched >> /tree/00/0000/$i.txt; done")


def large(mib):
    def prepare(context):
        random.seed(mib)
        path = f"{context}/large"
        os.makedirs(context, exist_ok=True)
        words = [random.randbytes(random.randrange(2, 6)).hex() for _ in range(5_000)]
        with open(path, "wb") as out:
            for _ in range(mib // 2):
                out.write(random.randbytes(MIB))
                text = " ".join(random.choice(words) for _ in range(MIB // 6))
                out.write(text.encode()[:MIB].ljust(MIB))
        dockerfile(context, "ARG HOST", "FROM $HOST/busybox:latest", "COPY large /large")

    return prepare


def change_large(context, turn):
    with open(f"{context}/large", "r+b") as file:
        file.seek(os.path.getsize(f"{context}/large") // 2)
        file.write(f"{turn:032}".encode())


def stages(context):
    write(f"{context}/source.c", "int x;\n")
    lines = ["ARG HOST"]
    for number in range(4):
        lines += [f"FROM $HOST/busybox:latest AS s{number}"]
        lines += ["COPY source.c /source.c"] if number == 0 else []
        lines += [f"RUN sleep 5 && echo {number} > /out{number}"]
    lines += ["FROM $HOST/busybox:latest"] + [f"COPY --from=s{n} /out{n} /out{n}" for n in range(4)]
    dockerfile(context, *lines)


def forty(context):
    write(f"{context}/source.c", "int x;\n")
    lines = ["ARG HOST", "FROM $HOST/debian:latest"]
    for number in range(40):
        lines += [f"RUN echo {number} > /file{number}"]
        lines += ["COPY source.c /source.c"] if number == 19 else []
    dockerfile(context, *lines)


WORKLOADS = {
    found.name: found
    for found in [
        Workload("tiny", tiny, append("file")),
        Workload("apt", apt, append("main.c"), ("PACKAGES",)),
        Workload("50k", many, append("tree/25/2500/5.txt")),
        Workload("1gib", large(1024), change_large),
        Workload("stages", stages, append("source.c")),
        Workload("40runs", forty, append("source.c")),
    ]
}
SOAK = {"2gib": Workload("2gib", large(2048), change_large)}
