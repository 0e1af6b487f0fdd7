//! The same Dockerfiles built by buildah, where it is installed, and compared:
//! every path of the tree (type, mode, owner, content, link target, attributes)
//! and the config. What differs is listed with the case and says why we are right.
//!
//! `make test` builds the first few; all with `CORACLE_SOAK=1`, which `make soak` sets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::image::{Entry, Image};
use crate::support::{Bench, User, plain, switch};

pub fn trials() -> Vec<Trial> {
    vec![plain("differential::the_same_as_buildah", the_same_as_buildah)]
}

/// How many of the cases `make test` has time for.
const FEW: usize = 6;

/// Name, Dockerfile, and accepted differences: a path or `config.FIELD`, and why.
struct Case(&'static str, &'static str, &'static [(&'static str, &'static str)]);

const CHMOD_OF_PARENTS: &str = "row 96: BuildKit makes parents with the mode of --chmod";
const DANGLING: &str = "row 89: a dangling link creates its target, a file here; buildah makes a directory";
const SHELL_OF_CMD: &str = "row 158: SHELL counts for CMD; buildah 1.28 forgets it";
const VOLUME_KEPT: &str = "row 162: BuildKit keeps changes below a VOLUME; buildah 1.28 drops them";

const CASES: &[Case] = &[
    Case("copy", "FROM BASE\nCOPY file /a\nCOPY file /b/\nCOPY file file2 /c/\nCOPY dir /d\n", &[]),
    Case(
        "run",
        "FROM BASE\nRUN mkdir -p /x/y && echo hi > /x/y/f && chmod 4750 /x/y/f && chown 5:6 /x/y/f && ln -s f /x/y/l\n",
        &[],
    ),
    Case(
        "stages",
        "FROM BASE AS a\nRUN mkdir /o && echo 1 > /o/f && chown -R 7:8 /o\nFROM BASE\nCOPY --from=a /o/f /p/\nCOPY --from=0 /o /q/\n",
        &[],
    ),
    Case(
        "config",
        "FROM BASE\nENV A=1 B=\"two words\"\nENV C=$A-$B\nLABEL x=y\nUSER app\nEXPOSE 80 53/udp\nVOLUME /data\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"/bin/echo\"]\nCMD [\"hi\"]\n",
        &[],
    ),
    Case("remove", "FROM BASE\nRUN rm -r /home && mkdir /home && touch /home/new && rm /etc/group\n", &[]),
    Case("ignore", "FROM BASE\nCOPY . /all/\n", &[]),
    Case(
        "chown",
        "FROM BASE\nCOPY --chown=app file /a\nCOPY --chown=5:6 file /b\nCOPY --chown=app:extra dir /c/\nCOPY --chown=9 file /d/e/f\n",
        &[],
    ),
    Case(
        "chmod",
        "FROM BASE\nCOPY --chmod=600 file /a\nCOPY --chmod=711 dir /b/\nCOPY --chmod=700 file /p/q\n",
        &[("p", CHMOD_OF_PARENTS), ("b", CHMOD_OF_PARENTS)],
    ),
    Case("wildcards", "FROM BASE\nCOPY file* /a/\nCOPY d?r/*.txt /b/\nCOPY [df]ile /c\n", &[]),
    Case(
        "links",
        "FROM BASE\nCOPY link /a\nCOPY dir/inner /b\nCOPY dir /c/\nCOPY file /lib/x\nRUN ln -s /nowhere /dangling\nCOPY file /dangling\n",
        &[("nowhere", DANGLING), ("nowhere/file", DANGLING)],
    ),
    Case("workdir", "FROM BASE\nWORKDIR /a/b\nWORKDIR c\nCOPY file .\nCOPY file ../up\nRUN pwd > pwd\n", &[]),
    Case("workdir-user", "FROM BASE\nUSER app\nWORKDIR /a/b\n", &[]),
    Case(
        "user",
        "FROM BASE\nUSER app\nRUN id > /tmp/id && touch /tmp/mine\nUSER 33:44\nRUN id -u > /tmp/uid && id -g > /tmp/gid\n",
        &[],
    ),
    Case(
        "args",
        "ARG V=1\nFROM BASE\nARG V\nARG W=w$V\nENV X=${W:-none} Y=${Z:-none} Z2=${V:+set}\nRUN echo $V $W > /f\n",
        &[],
    ),
    Case(
        "shell",
        "FROM BASE\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo one > /f; echo two >> /f\nCMD echo x\n",
        &[("config.Cmd", SHELL_OF_CMD)],
    ),
    Case("entrypoint", "FROM BASE\nCMD [\"a\"]\nENTRYPOINT [\"b\"]\n", &[]),
    Case("entrypoint-shell", "FROM BASE\nENTRYPOINT echo b\nCMD c\n", &[]),
    Case("onbuild", "FROM BASE AS p\nONBUILD COPY file /onbuild\nONBUILD RUN echo x > /ran\nFROM p\n", &[]),
    Case("healthcheck", "FROM BASE\nHEALTHCHECK --interval=5s --timeout=3s --retries=2 CMD true\n", &[]),
    Case("healthcheck-none", "FROM BASE\nHEALTHCHECK NONE\n", &[]),
    Case("volume", "FROM BASE\nVOLUME /v\nRUN mkdir -p /v && touch /v/f\n", &[("v/f", VOLUME_KEPT)]),
    Case("scratch", "FROM scratch\nCOPY dir/a.txt /\nCOPY file /x/y\nENV A=b\n", &[]),
    Case(
        "hardlinks",
        "FROM BASE\nRUN echo x > /h1 && ln /h1 /h2 && ln /h1 /tmp/h3\nFROM BASE\nCOPY --from=0 /tmp /t/\n",
        &[],
    ),
    Case("add-tar", "FROM BASE\nADD archive.tar /un/\nADD archive.tar /tmp\n", &[]),
    Case("add-file", "FROM BASE\nADD file /a\nADD dir /b/\nADD --chown=5 file /c\n", &[]),
    Case(
        "merge",
        "FROM BASE\nRUN mkdir -p /m/sub && echo old > /m/keep && echo old > /m/a.txt && chmod 700 /m/sub\nCOPY dir /m\n",
        &[],
    ),
    Case(
        "types",
        "FROM BASE\nRUN mkfifo /fifo && ln -s a /sym && mkdir /d && chmod 1777 /d && touch '/sp ace'\nRUN rm /sym && mkdir /sym\n",
        &[],
    ),
    Case("labels", "FROM BASE\nLABEL a=1 b=\"x y\" c='q'\nLABEL a=2\nMAINTAINER me <me@example.com>\n", &[]),
    Case("bind", "FROM BASE\nRUN --mount=type=bind,source=dir,target=/in cp -r /in/a.txt /got\n", &[]),
    Case(
        "exec-form",
        "FROM BASE\nRUN [\"/bin/sh\", \"-c\", \"echo $HOME > /home.txt\"]\nCOPY [\"file\", \"/with space\"]\n",
        &[],
    ),
    Case("metadata-only", "FROM BASE\nRUN chmod 700 /etc && chown 5:5 /etc/passwd\n", &[]),
    Case(
        "reuse",
        "FROM BASE AS a\nRUN echo a > /a\nFROM a AS b\nRUN echo b > /b\nFROM b\nCOPY --from=a /a /again\n",
        &[],
    ),
];

fn the_same_as_buildah() -> Result<(), String> {
    let user = User::root().map_err(|reason| format!("buildah is run as root here: {reason}"))?;
    let version = Command::new("buildah").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Err("buildah is not installed (make setup-bench)".to_owned());
    }
    let soak = switch("CORACLE_SOAK").is_some();
    let count = if soak { CASES.len() } else { FEW };
    let mut wrong = Vec::new();
    for Case(name, text, accepted) in &CASES[..count] {
        let mut bench = Bench::new(user);
        context(&bench);
        bench.dockerfile(text);
        let ours = bench.build(&["-t", "same"]);
        let theirs = buildah(&bench);
        let found = differences(&ours, &theirs);
        let known: BTreeSet<&str> = accepted.iter().map(|(place, _)| *place).collect();
        for (place, what) in &found {
            if !known.contains(place.as_str()) {
                wrong.push(format!("{name}: {place}: {what}"));
            }
        }
        let gone = known.iter().filter(|place| !found.contains_key(**place));
        wrong
            .extend(gone.map(|place| format!("{name}: {place} differs no longer: take it out of the table")));
    }
    if soak {
        report(count);
    }
    assert!(wrong.is_empty(), "coracle | buildah\n{}", wrong.join("\n"));
    Ok(())
}

/// Lines of the result file of `make soak`.
#[expect(clippy::print_stderr, reason = "libtest-mimic shows nothing that a passed test has to say")]
fn report(count: usize) {
    eprintln!("differential: {count} Dockerfiles built by both");
    for Case(name, _, accepted) in &CASES[..count] {
        for (place, reason) in *accepted {
            eprintln!("differential: accepted: {name}: {place}: {reason}");
        }
    }
}

fn context(bench: &Bench) {
    for name in ["file", "file2", "dir/a.txt", "dir/b.txt", "dir/sub/c", "secret.log"] {
        bench.file(name, format!("{name}\n"));
    }
    bench.file(".dockerignore", "*.log\nDockerfile\n.dockerignore\narchive.tar.keep\n");
    let root = bench.path("context");
    std::os::unix::fs::symlink("file", root.join("link")).unwrap();
    std::os::unix::fs::symlink("a.txt", root.join("dir/inner")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &str, mode| {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("dir", 0o750);
    mode("dir/sub", 0o711);
    mode("dir/b.txt", 0o755);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, kind, mode, uid) in [
        ("d", tar::EntryType::Directory, 0o700, 5),
        ("d/f", tar::EntryType::Regular, 0o4755, 6),
        ("top", tar::EntryType::Regular, 0o640, 0),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_size(0);
        archive.append_data(&mut header, path, std::io::empty()).unwrap();
    }
    bench.file("archive.tar", archive.into_inner().unwrap());
}

/// The bench's Dockerfile built by buildah, without anything of the host.
fn buildah(bench: &Bench) -> Image {
    let layout = bench.path("theirs");
    let [root, runroot] = ["buildah-root", "buildah-run"].map(|name| bench.path(name));
    let run = |arguments: &[&str]| {
        let output = Command::new("buildah")
            .args(["--storage-driver", "vfs", "--root"])
            .arg(&root)
            .arg("--runroot")
            .arg(&runroot)
            .args(arguments)
            .current_dir(bench.path(""))
            .env("BUILDAH_ISOLATION", "chroot")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "buildah: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(&["bud", "--tls-verify=false", "--format=docker", "--layers=false", "-t", "same", "context"]);
    run(&["push", "--format=v2s2", "same", &format!("dir:{}", layout.display())]);
    run(&["rmi", "--all", "--force"]);
    in_directory(&layout)
}

/// An image in the form of skopeo's `dir:`, whose files are named by digest.
fn in_directory(directory: &Path) -> Image {
    let manifest = std::fs::read(directory.join("manifest.json")).unwrap();
    let digest = coracle::image::Digest::of(&manifest).to_string();
    Image::gather(&digest, &|wanted| match wanted == digest {
        true => Some(manifest.clone()),
        false => std::fs::read(directory.join(wanted.trim_start_matches("sha256:"))).ok(),
    })
}

/// Place → `ours | theirs`.
fn differences(ours: &Image, theirs: &Image) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (mine, other) = (ours.tree(), theirs.tree());
    let paths: BTreeSet<&String> = mine.keys().chain(other.keys()).collect();
    for path in paths.into_iter().filter(|path| !is_of_the_host(path)) {
        let (a, b) = (shown(&mine, path), shown(&other, path));
        if a != b {
            found.insert(path.clone(), format!("{} | {}", a.unwrap_or_default(), b.unwrap_or_default()));
        }
    }
    for field in [
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "User",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "Shell",
        "Healthcheck",
        "OnBuild",
        "Labels",
    ] {
        let (a, b) = (config(ours, field), config(theirs, field));
        if a != b {
            found.insert(format!("config.{field}"), format!("{a} | {b}"));
        }
    }
    found
}

/// What buildah leaves of its mounts, and what belongs to nobody.
fn is_of_the_host(path: &str) -> bool {
    matches!(path, "" | "run" | "proc" | "sys" | "dev" | "etc/hosts" | "etc/resolv.conf" | "etc/hostname")
        || path.starts_with("run/")
}

/// Which name of a hard link is the file is no difference, so a link is shown
/// as what it names.
fn shown(tree: &BTreeMap<String, Entry>, path: &str) -> Option<String> {
    let entry = tree.get(path)?;
    if entry.kind.is_hard_link() {
        return shown(tree, &entry.target);
    }
    let content = match entry.content.len() {
        0..=40 => String::from_utf8_lossy(&entry.content).into_owned(),
        length => format!("{length} bytes {}", coracle::image::Digest::of(&entry.content)),
    };
    let mode = if entry.kind.is_symlink() { 0 } else { entry.mode & 0o7777 };
    let Entry { kind, uid, gid, target, device, xattrs, .. } = entry;
    Some(format!("{kind:?} {mode:o} {uid}:{gid} {target} {device:?} {xattrs:?} {content:?}"))
}

/// Without what each builder adds of its own, and null like missing.
fn config(image: &Image, field: &str) -> Value {
    let mut value = image.config["config"][field].clone();
    if let Some(labels) = value.as_object_mut() {
        labels.remove("io.buildah.version");
    }
    let empty = match &value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty() || field == "WorkingDir" && text == "/",
        _ => false,
    };
    if empty { Value::Null } else { value }
}
