//! The sandboxes that CI systems give a build, made with runc: capabilities,
//! seccomp profile and masked paths are those of the real ones.
//!
//! The state directory is on overlayfs, as it is in a container without a
//! volume; its upper directory is the bench's, so that what was built can be
//! read from outside. There is no network namespace: the registry is on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::bench::{Bench, Run, program};
use super::seccomp::Profile;
use super::user::User;

/// A kind of container.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// As in the documentation.
    pub name: &'static str,
    /// Who runs the builder.
    pub uid: u32,
    /// Without `CAP_`.
    pub capabilities: &'static [&'static str],
    /// The filter of the engine.
    pub seccomp: Profile,
    /// Kubernetes' `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
}

/// What Docker and containerd leave to root.
pub const DOCKER_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A stock container of Docker or containerd.
pub const DOCKER_DEFAULT: Container = Container {
    name: "docker-default",
    uid: 0,
    capabilities: &DOCKER_CAPABILITIES,
    seccomp: Profile::Docker,
    no_new_privileges: false,
};

impl Container {
    /// Why no container can be had here, if so.
    pub fn missing() -> Option<String> {
        if User::caller().uid != 0 {
            return Some("containers need root here".to_owned());
        }
        let runc = Command::new("runc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        match runc {
            Ok(status) if status.success() => None,
            _ => Some("runc is not installed".to_owned()),
        }
    }

    /// `coracle build` with flags, on the bench's context, inside.
    pub fn build(&self, bench: &Bench, flags: &[&str]) -> Run {
        let arguments = [&["/bin/coracle", "build", "--progress", "plain"], flags, &["/context"]].concat();
        self.run(bench, &arguments)
    }

    /// Runs a program inside.
    pub fn run(&self, bench: &Bench, arguments: &[&str]) -> Run {
        let bundle = bench.path(&format!("bundle-{}", self.name));
        if !bundle.exists() {
            make_root(&bundle.join("rootfs"));
        }
        for name in ["state", "state-lower", "state-work"] {
            fs::create_dir_all(bench.path(name)).unwrap();
        }
        let config = self.config(bench, arguments);
        fs::write(bundle.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        let id = format!("coracle-test-{}-{}", std::process::id(), unique(bench));
        let child = Command::new("runc")
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(id)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Run::of(child.unwrap())
    }

    fn config(&self, bench: &Bench, arguments: &[&str]) -> Value {
        let sets: Vec<String> = self.capabilities.iter().map(|name| format!("CAP_{name}")).collect();
        let held = if self.uid == 0 { sets.clone() } else { Vec::new() };
        let namespaces = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        let seccomp = self.seccomp.seccomp(&sets);
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": self.uid, "gid": self.uid },
                "args": arguments,
                "env": ["PATH=/bin", "HOME=/tmp", "CORACLE_STATE_DIR=/state"],
                "cwd": "/",
                "capabilities": {
                    "bounding": sets, "effective": held, "permitted": held, "inheritable": [], "ambient": [],
                },
                "noNewPrivileges": self.no_new_privileges,
            },
            "root": { "path": "rootfs", "readonly": false },
            "hostname": "runner",
            "mounts": mounts(bench),
            "linux": {
                "namespaces": namespaces,
                "seccomp": seccomp,
                "maskedPaths": [
                    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                    "/sys/firmware",
                ],
                "readonlyPaths": [
                    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
                ],
                "resources": { "devices": [
                    { "allow": false, "access": "rwm" },
                    { "allow": true, "type": "c", "access": "m" },
                    { "allow": true, "type": "b", "access": "m" },
                ]},
            },
        })
    }
}

fn mounts(bench: &Bench) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[String]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let path = |name: &str| bench.path(name).display().to_string();
    let overlay = [
        format!("lowerdir={}", path("state-lower")),
        format!("upperdir={}", path("state")),
        format!("workdir={}", path("state-work")),
    ];
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &words("nosuid,strictatime,mode=755,size=65536k")),
        mount("/dev/pts", "devpts", "devpts", &words("nosuid,noexec,newinstance,ptmxmode=0666,mode=0620")),
        mount("/dev/shm", "tmpfs", "shm", &words("nosuid,noexec,nodev,mode=1777,size=65536k")),
        mount("/sys", "sysfs", "sysfs", &words("nosuid,noexec,nodev,ro")),
        mount("/etc/resolv.conf", "bind", "/etc/resolv.conf", &words("bind,ro")),
        mount("/context", "bind", &path("context"), &words("bind,ro")),
        mount("/state", "overlay", "overlay", &overlay),
    ]
}

/// The program, what it is linked with, and nothing else.
fn make_root(root: &Path) {
    for name in ["bin", "context", "dev", "etc", "proc", "state", "sys", "tmp"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("etc/resolv.conf"), "").unwrap();
    fs::copy(program(), root.join("bin/coracle")).unwrap();
    for library in libraries() {
        let target = root.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&library, target).unwrap();
    }
}

/// A static program has none.
fn libraries() -> Vec<PathBuf> {
    let told = Command::new("ldd").arg(program()).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    told.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn unique(bench: &Bench) -> String {
    let name = bench.path("").file_name().unwrap().to_string_lossy().into_owned();
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}
