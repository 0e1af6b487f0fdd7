//! What the cases share: the sandbox, root trees made of busybox, and what a RUN
//! in one of them said.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use coracle::metadata::Key;
use coracle::sandbox::{
    self, Entered, Error, Exit, Linked, OutputStream, Protections, Root, RunSpec, Sandbox, Storage,
};
use tempfile::TempDir;

/// What all cases share.
pub(crate) struct Bench {
    pub(crate) entered: Entered,
    pub(crate) sandbox: Box<dyn Sandbox>,
    pub(crate) state: TempDir,
    pub(crate) busybox: Option<PathBuf>,
    tool: OnceLock<Tool>,
}

impl Bench {
    pub(crate) fn tool(&self) -> &Tool {
        self.tool.get_or_init(|| Tool::gather(self.state.path().join("tool")))
    }

    pub(crate) fn new(entered: Entered, state: TempDir) -> Self {
        let busybox =
            ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|p| p.exists());
        let tool = OnceLock::new();
        Self { sandbox: sandbox::sandbox(&entered), entered, state, busybox, tool }
    }

    pub(crate) fn directory(&self) -> TempDir {
        tempfile::tempdir_in(self.state.path()).unwrap()
    }

    /// A base with busybox, /tmp, and files that belong to others.
    pub(crate) fn base(&self, at: &Path) {
        for name in ["bin", "etc", "tmp", "root", "lib"] {
            fs::create_dir_all(at.join(name)).unwrap();
        }
        fs::set_permissions(at.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy(self.busybox.as_ref().unwrap(), at.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "echo", "sleep", "id", "hostname", "touch", "rm", "stat", "mount", "umount",
            "ifconfig", "unshare", "sync", "grep", "true", "mkdir", "dd", "readlink", "chown", "mknod", "tr",
            "kill", "find", "wc",
        ] {
            symlink("busybox", at.join("bin").join(applet)).unwrap();
        }
        fs::write(at.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n")
            .unwrap();
    }

    /// The same base as overlay and as plain directory.
    pub(crate) fn roots(&self) -> Vec<Rooted> {
        let overlay = self.overlay();
        let directory = self.directory();
        let plain = directory.path().join("root");
        fs::create_dir(&plain).unwrap();
        self.base(&plain);
        let mut roots = vec![Rooted { root: Root::Plain(plain.clone()), written: plain, directory }];
        if self.entered.storage == Storage::Overlay {
            roots.push(overlay);
        }
        roots
    }

    pub(crate) fn overlay(&self) -> Rooted {
        let directory = self.directory();
        let [lower, upper, work] = ["lower:1", "upper", "work"].map(|name| directory.path().join(name));
        for path in [&lower, &upper, &work] {
            fs::create_dir(path).unwrap();
        }
        self.base(&lower);
        let root =
            Root::Overlay { lowers: vec![lower], upper: upper.clone(), work, linked: Linked::default() };
        Rooted { root, written: upper, directory }
    }

    pub(crate) fn shell(&self, root: &Rooted, script: &str) -> Outcome {
        self.run(&spec(&root.root, script))
    }

    pub(crate) fn run(&self, spec: &RunSpec) -> Outcome {
        self.try_run(spec, &|| false).unwrap()
    }

    pub(crate) fn try_run(&self, spec: &RunSpec, cancelled: &dyn Fn() -> bool) -> Result<Outcome, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut take = |stream, chunk: &[u8]| match stream {
            OutputStream::Stdout => stdout.extend_from_slice(chunk),
            OutputStream::Stderr => stderr.extend_from_slice(chunk),
        };
        // `volatile` refuses an upper directory for a second time.
        if let Root::Overlay { work, .. } = &spec.root {
            fs::remove_dir_all(work).unwrap();
            fs::create_dir(work).unwrap();
        }
        let exit = self.sandbox.run(spec, &mut take, cancelled)?;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ok(Outcome { exit, stdout: text(stdout), stderr: text(stderr) })
    }
}

/// This program and its libraries, for a RUN that has them at `/tool`.
pub(crate) struct Tool {
    pub(crate) directory: PathBuf,
    pub(crate) argv: Vec<OsString>,
}

impl Tool {
    /// Copies what the kernel has mapped for us.
    fn gather(into: PathBuf) -> Self {
        fs::create_dir(&into).unwrap();
        fs::copy("/proc/self/exe", into.join("test")).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libraries = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let libraries = libraries.filter(|path| path.contains(".so"));
        let mut linker = None;
        for path in libraries.map(Path::new).collect::<BTreeSet<_>>() {
            let name = path.file_name().unwrap();
            fs::copy(path, into.join(name)).unwrap();
            if name.to_string_lossy().starts_with("ld-") {
                linker = Some(Path::new("/tool").join(name));
            }
        }
        let program = OsString::from("/tool/test");
        let argv = match linker {
            Some(linker) => vec![linker.into(), "--library-path".into(), "/tool".into(), program],
            None => vec![program],
        };
        Self { directory: into, argv }
    }
}

pub(crate) struct Rooted {
    pub(crate) root: Root,
    /// Where writes end up.
    pub(crate) written: PathBuf,
    pub(crate) directory: TempDir,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn is(&self, stdout: &str) {
        assert_eq!((self.exit, self.stdout.as_str()), (Exit::Code(0), stdout), "{}", self.stderr);
    }

    #[track_caller]
    pub(crate) fn fails(&self) {
        assert!(matches!(self.exit, Exit::Code(code) if code != 0), "{self:?}");
    }
}

pub(crate) fn spec(root: &Root, script: &str) -> RunSpec {
    RunSpec {
        root: root.clone(),
        argv: ["/bin/sh", "-c", script].map(OsString::from).to_vec(),
        env: vec![("PATH".into(), "/bin".into()), ("MARK".into(), "in-the-run".into())],
        cwd: "/".into(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        mounts: Vec::new(),
        hostname: "buildkitsandbox".to_owned(),
        hosts: b"127.0.0.1 localhost\n".to_vec(),
        resolv_conf: b"nameserver 192.0.2.1\n".to_vec(),
        network_none: false,
        scripts: Vec::new(),
        ulimits: Vec::new(),
        record_key: Some(Key::from_bytes([7; 32])),
        protections: Protections::default(),
    }
}

/// Every path below, with what of it a layer would hold.
pub(crate) fn snapshot(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(path) = ahead.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let time = (metadata.mtime(), metadata.mtime_nsec());
        found.push(format!("{} {:o} {time:?}", path.display(), metadata.mode()));
        if metadata.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}
