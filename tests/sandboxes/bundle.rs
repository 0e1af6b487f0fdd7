//! The sandboxes of CI systems, made with runc: a small root tree with the
//! program under test in it, and one config.json per sandbox.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use caps::{CapSet, Capability};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::seccomp::Profile;

/// Which capabilities a sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// Every one that these tests have themselves.
    All,
    /// Docker's 14.
    Docker,
    /// Docker's 14 and CAP_SYS_ADMIN.
    DockerAndAdmin,
    /// None, not even in the bounding set.
    None,
}

/// One place where CI systems run a build.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox {
    /// As the reference calls it.
    pub name: &'static str,
    /// Who runs the build.
    pub uid: u32,
    /// As root; for others this is the bounding set alone.
    pub capabilities: Capabilities,
    /// The filter of the engine.
    pub profile: Profile,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// `hostUsers: false`: root of 65,536 ids.
    pub user_namespace: bool,
    /// The rung that the finished ladder takes here.
    pub rung: &'static str,
}

/// Everything that is tried.
pub const SANDBOXES: [Sandbox; 12] = {
    use Capabilities as C;
    use Profile as P;
    [
        sandbox("docker-default", 0, C::Docker, P::Docker, false, "chroot"),
        sandbox("docker-admin", 0, C::DockerAndAdmin, P::Docker, false, "mounts"),
        sandbox("podman-default", 0, C::Docker, P::Podman, false, "namespaces"),
        sandbox("non-root", 1000, C::Docker, P::Docker, false, "virtual"),
        sandbox("restricted", 1000, C::None, P::Docker, true, "virtual"),
        sandbox("restricted-podman", 1000, C::None, P::Podman, true, "single"),
        sandbox("restricted-crio", 1000, C::None, P::Crio, true, "single"),
        sandbox("rootless", 1000, C::Docker, P::None, false, "namespaces"),
        sandbox("rootless-nnp", 1000, C::Docker, P::None, true, "single"),
        in_user_namespace(sandbox("userns-pod", 0, C::Docker, P::Docker, false, "chroot")),
        in_user_namespace(sandbox("userns-pod-admin", 0, C::DockerAndAdmin, P::Docker, false, "mounts")),
        sandbox("privileged", 0, C::All, P::None, false, "namespaces"),
    ]
};

const fn sandbox(
    name: &'static str,
    uid: u32,
    capabilities: Capabilities,
    profile: Profile,
    no_new_privileges: bool,
    rung: &'static str,
) -> Sandbox {
    Sandbox { name, uid, capabilities, profile, no_new_privileges, user_namespace: false, rung }
}

const fn in_user_namespace(sandbox: Sandbox) -> Sandbox {
    Sandbox { user_namespace: true, ..sandbox }
}

/// Where the ids of a pod with its own users begin outside.
const POD_IDS: u32 = 0x7000_0000;
const POD_ID_COUNT: u32 = 65_536;

/// Something outside that the sandbox sees.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Outside.
    pub source: PathBuf,
    /// Inside, absolute.
    pub target: &'static str,
    /// Whether it can be written.
    pub read_only: bool,
}

impl Sandbox {
    /// The one called `name`.
    pub fn named(name: &str) -> Option<Self> {
        SANDBOXES.into_iter().find(|sandbox| sandbox.name == name)
    }

    /// Who the build is, seen from outside.
    pub fn outer_uid(&self) -> u32 {
        if self.user_namespace { POD_IDS + self.uid } else { self.uid }
    }

    /// Its bounding set.
    pub fn capabilities(&self) -> Vec<String> {
        let names = |wanted: &[Capability]| wanted.iter().map(ToString::to_string).collect();
        match self.capabilities {
            Capabilities::None => Vec::new(),
            Capabilities::Docker => names(&DOCKER),
            Capabilities::DockerAndAdmin => names(&[&DOCKER[..], &[Capability::CAP_SYS_ADMIN]].concat()),
            Capabilities::All => {
                let ours = |capability: &Capability| {
                    caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false)
                };
                caps::all().into_iter().filter(ours).map(|capability| capability.to_string()).collect()
            }
        }
    }

    /// config.json of this sandbox.
    fn config<A: AsRef<OsStr>>(&self, rootfs: &Path, volumes: &[Volume], arguments: &[A]) -> Value {
        let arguments: Vec<_> =
            arguments.iter().map(|argument| argument.as_ref().to_string_lossy().into_owned()).collect();
        let bounding = self.capabilities();
        let own = if self.uid == 0 { bounding.clone() } else { Vec::new() };
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": self.uid, "gid": self.uid},
                "args": arguments,
                "env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    format!("HOME={}", if self.uid == 0 { "/root" } else { "/home/builder" }),
                    "CORACLE_STATE_DIR=/state",
                    "SOURCE_DATE_EPOCH=1000000000",
                ],
                "cwd": "/",
                "capabilities": {"bounding": bounding, "effective": own, "permitted": own},
                "noNewPrivileges": self.no_new_privileges,
            },
            "root": {"path": rootfs, "readonly": true},
            "hostname": "sandbox",
            "mounts": self.mounts(volumes),
            "linux": self.linux(&bounding),
        })
    }

    fn mounts(&self, volumes: &[Volume]) -> Vec<Value> {
        let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
        let inert = ["nosuid", "noexec", "nodev"];
        // A new sysfs wants a network namespace of its own.
        let sys = match self.user_namespace {
            true => json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}),
            false => mount("/sys", "sysfs", &[&inert[..], &["ro"]].concat()),
        };
        let mut mounts = vec![
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &[&inert[..], &["mode=1777", "size=65536k"]].concat()),
            mount("/dev/mqueue", "mqueue", &inert),
            sys,
            mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777"]),
        ];
        mounts.extend(volumes.iter().map(|volume| {
            let how = if volume.read_only { "ro" } else { "rw" };
            json!({"destination": volume.target, "type": "bind", "source": volume.source, "options": ["bind", how]})
        }));
        mounts
    }

    fn linux(&self, capabilities: &[String]) -> Value {
        let mut kinds = vec!["pid", "ipc", "uts", "mount"];
        let mut linux = json!({"resources": {"devices": [{"allow": self.is_privileged(), "access": "rwm"}]}});
        if self.user_namespace {
            kinds.push("user");
            let map = json!([{"containerID": 0, "hostID": POD_IDS, "size": POD_ID_COUNT}]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        }
        linux["namespaces"] = kinds.iter().map(|kind| json!({"type": kind})).collect();
        if !self.is_privileged() {
            linux["maskedPaths"] = json!(MASKED);
            linux["readonlyPaths"] = json!(READ_ONLY);
        }
        if let Some(filter) = self.profile.seccomp(capabilities) {
            linux["seccomp"] = filter;
        }
        linux
    }

    fn is_privileged(&self) -> bool {
        self.capabilities == Capabilities::All
    }
}

const DOCKER: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What every sandbox is made from; removed when dropped.
pub struct Kit {
    directory: TempDir,
    next: AtomicU32,
}

impl Kit {
    /// Puts the root tree together. `Err` says why no sandbox can be made here.
    pub fn new(program: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("runc needs root here".to_owned());
        }
        let works = Command::new("runc").arg("--version").output().is_ok_and(|run| run.status.success());
        if !works {
            return Err("runc is not installed".to_owned());
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|p| p.exists());
        let busybox = busybox.ok_or("busybox-static is not installed")?;
        let directory = tempfile::Builder::new().prefix("coracle-sandboxes-").tempdir();
        let directory = directory.map_err(|error| format!("no temporary directory: {error}"))?;
        open_to_all(directory.path());
        let kit = Self { directory, next: AtomicU32::new(0) };
        kit.fill(program, busybox);
        Ok(kit)
    }

    fn rootfs(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    fn fill(&self, program: &Path, busybox: &Path) {
        let root = self.rootfs();
        for name in
            ["bin", "dev", "etc", "home/builder", "proc", "root", "state", "sys", "tmp", "usr/bin", "work"]
        {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "id", "ls", "stat", "mkdir", "rm", "mount", "env", "ps", "sleep", "grep"]
        {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        self.install(program, "usr/bin/coracle");
        for (helper, capability) in [("newuidmap", 7), ("newgidmap", 6)] {
            // Without them the sandbox for ordinary users shows just that.
            if let Some(found) =
                ["/usr/bin", "/bin"].iter().map(|at| Path::new(at).join(helper)).find(|path| path.exists())
            {
                let inside = self.install(&found, &format!("usr/bin/{helper}"));
                give_capability(&inside, capability);
            }
        }
        let users = "root:x:0:0::/root:/bin/sh\nbuilder:x:1000:1000::/home/builder:/bin/sh\n";
        for (name, text) in [
            ("passwd", users),
            ("group", "root:x:0:\nbuilder:x:1000:\n"),
            ("subuid", "builder:100000:65536\n"),
            ("subgid", "builder:100000:65536\n"),
            ("hosts", "127.0.0.1 localhost\n"),
        ] {
            fs::write(root.join("etc").join(name), text).unwrap();
        }
        // A machine without name service has sandboxes without.
        let names = fs::read("/etc/resolv.conf").unwrap_or_default();
        fs::write(root.join("etc/resolv.conf"), names).unwrap();
    }

    /// Copies a program and the libraries it needs.
    fn install(&self, program: &Path, name: &str) -> PathBuf {
        let inside = self.rootfs().join(name);
        fs::copy(program, &inside).unwrap();
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).unwrap();
        for library in libraries(program) {
            let copy = self.rootfs().join(library.strip_prefix("/").unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            if !copy.exists() {
                fs::copy(&library, &copy).unwrap();
            }
        }
        inside
    }

    /// Removes everything, also what belongs to ids of containers.
    pub fn remove(&self) {
        fs::remove_dir_all(self.directory.path()).unwrap();
    }

    /// An empty directory that everybody can read.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).unwrap();
        open_to_all(&path);
        path
    }

    /// An empty directory that belongs to the build of `sandbox`.
    pub fn volume(&self, sandbox: &Sandbox) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("volume-{number}"));
        fs::create_dir(&path).unwrap();
        chown(&path, Some(sandbox.outer_uid()), Some(sandbox.outer_uid())).unwrap();
        path
    }

    /// Removes a volume and all that containers left there.
    pub fn remove_volume(&self, volume: &Volume) {
        fs::remove_dir_all(&volume.source).unwrap();
    }

    /// Runs a command in the sandbox to its end, with the network of the host.
    /// `Err`: it did not end in time.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        sandbox: &Sandbox,
        volumes: &[Volume],
        arguments: &[A],
    ) -> Result<Output, String> {
        let mut container = self.container(sandbox, volumes, arguments);
        let (done, ended) = mpsc::channel();
        let mut command = container.command;
        command.stdin(Stdio::null());
        std::thread::spawn(move || done.send(command.output().unwrap()));
        if let Ok(output) = ended.recv_timeout(LIMIT) {
            return Ok(output);
        }
        container.command = Command::new("runc");
        let killed = container.command.args(["delete", "--force", &container.name]).status();
        let output = ended.recv_timeout(Duration::from_secs(20));
        let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        Err(format!("still running after {LIMIT:?} ({killed:?}):\n{}", said.unwrap_or_default()))
    }

    /// A container that runs `arguments` in the sandbox.
    pub fn container<A: AsRef<OsStr>>(
        &self,
        sandbox: &Sandbox,
        volumes: &[Volume],
        arguments: &[A],
    ) -> Container {
        let bundle = tempfile::Builder::new().prefix("bundle-").tempdir_in(self.directory.path()).unwrap();
        open_to_all(bundle.path());
        let config = sandbox.config(&self.rootfs(), volumes, arguments);
        fs::write(bundle.path().join("config.json"), config.to_string()).unwrap();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("coracle-{}-{number}-{}", sandbox.name, std::process::id());
        let mut command = Command::new("runc");
        command.arg("run").arg("--bundle").arg(bundle.path()).arg(&name);
        Container { command, name, _bundle: bundle }
    }
}

/// A container that can be started; its files are there as long as this is.
pub struct Container {
    /// Runs it in the foreground.
    pub command: Command,
    name: String,
    _bundle: TempDir,
}

/// No command of a test takes longer; one that does hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// Root of a pod has no power over what belongs to the host's root.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What ldd(1) names; none for a static program.
fn libraries(program: &Path) -> BTreeSet<PathBuf> {
    let output = Command::new("ldd").arg(program).output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// `setcap NUMBER+ep`: version 2 of `security.capability` (linux/capability.h).
fn give_capability(path: &Path, number: u32) {
    let mut value = 0x0200_0001_u32.to_le_bytes().to_vec();
    value.extend((1_u32 << number).to_le_bytes());
    value.extend([0; 12]);
    rustix::fs::setxattr(path, "security.capability", &value, rustix::fs::XattrFlags::empty()).unwrap();
}
