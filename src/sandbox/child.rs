//! The last stretch before the program: pid 1 of the new namespaces builds
//! its root, moves into it, gives up every right it must not have, and execs.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Gid, Uid};
use rustix::fs::FileType;

use super::devices::Proc;
use super::limit::Ulimit;
use super::message::{Failure, FailureKind, Message, send};
use super::mounts::{self, INERT, open_path};
use super::protections::{Protection, Protections};
use super::spec::{MountSpec, Root, RunSpec};
use super::supervisor::{self, Heard};
use super::target::{Rooted, Stub, Want, file_type};
use super::{copy, devices, filter, linked, overlay, raw, single, sys, tasks};

/// What Docker leaves to a container; a RUN has no more on any rung.
pub(super) const CAPABILITIES: [Capability; 14] = [
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

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program of `spec`, or tells `channel` why not. `lifeline` is at
/// its end once the stub is gone; the listener of the supervisor goes over
/// `handover`. With `one_id` owners and users are kept by the supervisor.
pub(super) fn become_program(
    spec: &RunSpec,
    mut channel: UnixStream,
    lifeline: &PipeReader,
    handover: UnixStream,
    one_id: bool,
) -> ! {
    let failure = match prepare(spec, lifeline, handover, one_id) {
        Ok(stubs) => match send(&mut channel, &Message::Stubs(stubs)) {
            Ok(()) => execute(spec),
            Err(error) => Failure::new("report to", "the builder", &error),
        },
        Err(failure) => failure,
    };
    // If the builder is gone nobody wants to know.
    let _ = send(&mut channel, &Message::Failed(failure));
    sys::exit_now(125)
}

fn prepare(
    spec: &RunSpec,
    lifeline: &PipeReader,
    handover: UnixStream,
    one_id: bool,
) -> Result<Vec<Stub>, Failure> {
    tasks::limit_users(spec).map_err(|error| Failure::new("limit", "the tasks of the RUN", &error))?;
    let (root, stubs, proc) = build_root(spec, &handover)?;
    move_into(&root, spec.protections).map_err(|error| Failure::new("change the root to", "/", &error))?;
    drop(root);
    // Some profiles refuse it: then the supervisor tells the name.
    let _ = unistd::sethostname(&spec.hostname);
    set_surroundings(spec)?;
    make_directory(spec).map_err(|error| Failure::new("make the directory", &spec.cwd, &error))?;
    unistd::chdir(&spec.cwd)
        .map_err(|errno| Failure::new("change to directory", &spec.cwd, &errno.into()))?;
    if one_id {
        single::take_rights(spec, &handover, proc)?;
    } else {
        take_rights(spec, &handover, proc)?;
    }
    drop(handover);
    detach(lifeline, spec.protections).map_err(|error| Failure::new("detach", "the process", &error))?;
    Ok(stubs)
}

/// Everything mounted, seen from the old root.
fn build_root(spec: &RunSpec, stub: &UnixStream) -> Result<(OwnedFd, Vec<Stub>, Proc), Failure> {
    mounts::make_private().map_err(|error| Failure::new("make private", "/", &error))?;
    let bench = Bench::mount_root(&spec.root, spec.protections)?;
    let mut rooted = Rooted::open(&bench.place)
        .map_err(|error| Failure::new("open the root", &bench.place, &error))?
        .under(spec.protections);
    if spec.root.linked().is_some() {
        let shown = linked::show(rooted.root(), stub);
        shown.map_err(|error| Failure::new("follow the linked files in", &bench.place, &error))?;
    }
    let proc = devices::mount_all(&mut rooted, &spec.scripts, spec.network_none)?;
    for (target, fd) in bench.etc(spec)? {
        bind_file(&mut rooted, Path::new(target), &fd)
            .and_then(|()| freeze(&mut rooted, Path::new(target)))
            .map_err(|error| Failure::new("mount", target, &error))?;
    }
    for (mount, secret) in spec.mounts.iter().zip(bench.secrets(spec)?) {
        let target = mount.target();
        mount_one(&mut rooted, mount, secret).map_err(|error| Failure::new("mount", target, &error))?;
    }
    let (root, stubs) = rooted.into_stubs();
    Ok((root, stubs, proc))
}

/// A tmpfs for files that must lie nowhere: it is mounted where the root comes
/// to lie, and the root on top of it. So no path leads to it, neither outside
/// this mount namespace nor inside the new root.
struct Bench {
    place: PathBuf,
    files: OwnedFd,
}

impl Bench {
    fn mount_root(root: &Root, protections: Protections) -> Result<Self, Failure> {
        let place = match root {
            Root::Overlay { upper, .. } => upper.clone(),
            Root::Plain(path) => path.clone(),
        };
        let failed = |error: io::Error| Failure::new("mount the root at", &place, &error);
        let source = RootSource::open(root)?;
        mounts::new("tmpfs", &open_path(&place).map_err(failed)?, INERT, "mode=0700").map_err(failed)?;
        let files = open_path(&place).map_err(failed)?;
        source.mount(&files).map_err(failed)?;
        let root = open_path(&place).map_err(failed)?;
        if protections.keep(Protection::InertNodes) {
            mounts::without_devices(&root).map_err(failed)?;
        }
        Ok(Self { place, files })
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> io::Result<(OwnedFd, PathBuf)> {
        let path = mounts::link(&self.files).join(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
        Ok((open_path(&path)?, path))
    }

    fn etc(&self, spec: &RunSpec) -> Result<Vec<(&'static str, OwnedFd)>, Failure> {
        [("/etc/resolv.conf", spec.resolv_conf.as_slice()), ("/etc/hosts", &spec.hosts)]
            .into_iter()
            .map(|(target, content)| {
                let name = target.trim_start_matches("/etc/");
                let (fd, _) =
                    self.file(name, content, 0o644).map_err(|error| Failure::new("write", target, &error))?;
                Ok((target, fd))
            })
            .collect()
    }

    /// One place per mount of the spec, filled where it is a file.
    fn secrets(&self, spec: &RunSpec) -> Result<Vec<Option<OwnedFd>>, Failure> {
        spec.mounts
            .iter()
            .enumerate()
            .map(|(number, mount)| {
                let MountSpec::File { content, target, mode, uid, gid } = mount else { return Ok(None) };
                let made = self.file(&format!("secret-{number}"), content.expose(), *mode);
                let owned = made.and_then(|(fd, path)| {
                    single::own(&path, (*uid, *gid), spec.record_key.as_ref())?;
                    // chown clears setuid bits only, but say it once more.
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777))?;
                    Ok(fd)
                });
                owned.map(Some).map_err(|error| Failure::new("write the secret for", target, &error))
            })
            .collect()
    }
}

/// The root, opened before anything covers its path.
enum RootSource {
    Overlay(overlay::Stack),
    Plain(OwnedFd),
}

impl RootSource {
    fn open(root: &Root) -> Result<Self, Failure> {
        match root {
            Root::Plain(path) => {
                let fd = open_path(path).map_err(|error| Failure::new("open the root", path, &error))?;
                Ok(Self::Plain(fd))
            }
            Root::Overlay { lowers, upper, work, .. } => {
                let stack = overlay::Stack::open(lowers, upper, work)
                    .map_err(|error| Failure::new("open the layers below", upper, &error))?;
                let count = stack.lowers();
                if count > overlay::MOST_LOWERS {
                    let kind = FailureKind::TooManyLowers(count);
                    return Err(Failure { kind, action: String::new(), path: upper.clone(), errno: 0 });
                }
                Ok(Self::Overlay(stack))
            }
        }
    }

    fn mount(&self, target: &OwnedFd) -> io::Result<()> {
        match self {
            Self::Overlay(stack) => stack.mount(target),
            Self::Plain(fd) => mounts::bind_bare(fd, target),
        }
    }
}

fn mount_one(rooted: &mut Rooted, mount: &MountSpec, secret: Option<OwnedFd>) -> io::Result<()> {
    match mount {
        MountSpec::Bind { source, target, read_only } => {
            let source = open_path(source)?;
            mounts::bind(&source, &place_for(rooted, target, &source)?)?;
            disarm(rooted, target)?;
            if *read_only { freeze(rooted, target) } else { Ok(()) }
        }
        MountSpec::ScratchBind { source, scratch, target } => {
            scratch_bind(rooted, source, scratch, target)?;
            disarm(rooted, target)
        }
        MountSpec::Tmpfs { target, size, mode } => {
            let place = rooted.place(target, Want::Directory)?;
            let size = size.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
            let options = format!("mode={:o}{size}", mode & 0o7777);
            mounts::new("tmpfs", &place, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, &options)
        }
        MountSpec::File { target, .. } => {
            let secret = secret.ok_or(io::ErrorKind::NotFound)?;
            bind_file(rooted, target, &secret)?;
            freeze(rooted, target)
        }
    }
}

fn bind_file(rooted: &mut Rooted, target: &Path, source: &OwnedFd) -> io::Result<()> {
    mounts::bind(source, &rooted.place(target, Want::File)?)
}

/// A mount point that fits `source`.
fn place_for(rooted: &mut Rooted, target: &Path, source: &OwnedFd) -> io::Result<OwnedFd> {
    let directory = file_type(source.as_fd())? == FileType::Directory;
    rooted.place(target, if directory { Want::Directory } else { Want::File })
}

/// Real root could otherwise make the node of a disk there, and open it.
fn disarm(rooted: &mut Rooted, target: &Path) -> io::Result<()> {
    if !rooted.protections.keep(Protection::InertNodes) {
        return Ok(());
    }
    mounts::without_devices(&rooted.place(target, Want::File)?)
}

fn freeze(rooted: &mut Rooted, target: &Path) -> io::Result<()> {
    if !rooted.protections.keep(Protection::ReadOnlyMounts) {
        return Ok(());
    }
    // It is there by now: this only opens what was mounted on it.
    mounts::read_only(&rooted.place(target, Want::File)?)
}

/// Writable, and nothing of it stays: an overlay over the source, or a copy of
/// it where overlayfs is not to be had (or the source is one file).
fn scratch_bind(rooted: &mut Rooted, source: &Path, scratch: &Path, target: &Path) -> io::Result<()> {
    let source_fd = open_path(source)?;
    let place = place_for(rooted, target, &source_fd)?;
    if file_type(source_fd.as_fd())? == FileType::Directory {
        let [upper, work] = ["upper", "work"].map(|name| scratch.join(name));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let stat = rustix::fs::fstat(&source_fd)?;
        chown(&upper, Some(stat.st_uid), Some(stat.st_gid))?;
        fs::set_permissions(&upper, fs::Permissions::from_mode(stat.st_mode & 0o7777))?;
        if overlay::Stack::open(&[source], &upper, &work)?.mount(&place).is_ok() {
            return Ok(());
        }
    }
    let copied = scratch.join("copy");
    copy::copy(source, &copied)?;
    mounts::bind(&open_path(&copied)?, &place)
}

/// pivot_root(2) onto itself, its example "pivot_root(".", ".")": the old root
/// comes to lie on the new one and is detached; no directory is needed for it.
fn move_into(root: &OwnedFd, protections: Protections) -> io::Result<()> {
    unistd::fchdir(root)?;
    if !protections.keep(Protection::NewRoot) {
        return Ok(unistd::chroot(".")?);
    }
    match unistd::pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        Err(nix::errno::Errno::EPERM) => mounts::move_to_root()?,
        Err(error) => return Err(error.into()),
    }
    Ok(unistd::chdir("/")?)
}

/// A working directory that an earlier RUN removed is made again, for the user
/// of this one (as in BuildKit). Only its own root is in view by now, so links
/// lead nowhere else.
fn make_directory(spec: &RunSpec) -> io::Result<()> {
    let mut above: Vec<&Path> = spec.cwd.ancestors().collect();
    above.reverse();
    for directory in above {
        match fs::create_dir(directory) {
            Ok(()) => {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
                single::own(directory, (spec.uid, spec.gid), spec.record_key.as_ref())?;
            }
            // What is there and no directory is for chdir to say.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What the program finds around it, apart from files.
pub(super) fn set_surroundings(spec: &RunSpec) -> Result<(), Failure> {
    if spec.network_none && spec.protections.keep(Protection::Network) {
        match sys::loopback_up() {
            // Needs CAP_NET_ADMIN, which a container with CAP_SYS_ADMIN may lack:
            // then the RUN has no network at all, not even with itself.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            other => other.map_err(|error| Failure::new("bring up", "lo", &error))?,
        }
    }
    umask(Mode::from_bits_truncate(0o022));
    limit_resources().map_err(|error| Failure::new("set the limits of", "the process", &error))?;
    spec.ulimits.iter().try_for_each(limit)
}

/// After the usual limits, which it may replace; while rights to raise one are there.
fn limit(limit: &Ulimit) -> Result<(), Failure> {
    limit.apply().map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EPERM);
        let path = limit.to_string().into();
        Failure { kind: FailureKind::Limit, action: limit.highest(), path, errno }
    })
}

/// The usual 1024 open files (the stub may have raised it), and no core file:
/// it would end in the layer.
fn limit_resources() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, hard)?)
}

/// From all rights in the namespace to those of the user in Docker. The
/// filters go first, while CAP_SYS_ADMIN is there: without no_new_privs, so
/// that `sudo` works in a RUN.
fn take_rights(spec: &RunSpec, handover: &UnixStream, proc: Proc) -> Result<(), Failure> {
    confine(spec, None).map_err(|error| Failure::new("confine", "the process", &error))?;
    if spec.protections.keep(Protection::Seccomp) {
        filter::install().map_err(|error| Failure::new("install", "the seccomp filter", &error))?;
    }
    hand_over(spec, handover, proc, false)?;
    if !spec.protections.keep(Protection::Capabilities) {
        return set_ids(spec).map_err(|error| Failure::new("become", "the user", &error));
    }
    let mut kept: CapsHashSet = CAPABILITIES.into_iter().collect();
    if !spec.network_none && can_capture() {
        kept.remove(&Capability::CAP_NET_RAW);
    }
    let bits = kept.iter().fold(0, |bits, capability| bits | capability.bitmask());
    sys::limit_bounding_set(bits)
        .map_err(|error| Failure::new("limit", "the capability bounding set", &error))?;
    set_ids(spec)
        .map_err(|error| Failure::new("become user", format!("{}:{}", spec.uid, spec.gid), &error))?;
    let kept = if spec.uid == 0 { kept } else { CapsHashSet::new() };
    limit_capabilities(&kept).map_err(|error| Failure::new("drop", "capabilities", &io::Error::other(error)))
}

/// Whether CAP_NET_RAW means something in this network: then it is the builder's
/// network (rung `mounts`), and a RUN could listen to what it sends.
fn can_capture() -> bool {
    use rustix::net::{AddressFamily, SocketType, socket};
    socket(AddressFamily::PACKET, SocketType::RAW, None).is_ok()
}

/// Signals and abstract unix sockets end at the RUN: the network namespace is
/// often shared, and abstract sockets are names in it (unix(7)); so do files at
/// `root`, where there is one. Kernels before 5.13 have no Landlock, those before
/// 6.12 no such scopes.
pub(super) fn confine(spec: &RunSpec, root: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let Ok(version) = sys::landlock_version() else { return Ok(()) };
    let root = root.filter(|_| spec.protections.keep(Protection::Files));
    raw::confine(root, spec.protections.keep(Protection::Scopes), version)
}

/// From here on the calls of this process are supervised.
pub(super) fn hand_over(spec: &RunSpec, to: &UnixStream, proc: Proc, one_id: bool) -> Result<(), Failure> {
    let is_named = unistd::gethostname().is_ok_and(|name| *name == *spec.hostname);
    let heard = if proc == Proc::Served || !is_named { Heard::Paths } else { Heard::Devices };
    open_path(Path::new("/"))
        .and_then(|root| supervisor::give(to, root.as_fd(), heard, spec.protections, one_id))
        .map_err(|error| Failure::new("hand over", "the listener", &error))
}

pub(super) fn set_ids(spec: &RunSpec) -> io::Result<()> {
    let groups: Vec<Gid> = spec.groups.iter().copied().map(Gid::from_raw).collect();
    unistd::setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    unistd::setresgid(gid, gid, gid)?;
    Ok(unistd::setresuid(uid, uid, uid)?)
}

/// Leaving uid 0 cleared everything already; root keeps Docker's set, which
/// exec then computes again from the bounding set (capabilities(7)).
pub(super) fn limit_capabilities(keep: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, keep)?;
    caps::set(None, CapSet::Permitted, keep)
}

/// A session of its own, nothing inherited, and death with the stub.
pub(super) fn detach(lifeline: &PipeReader, protections: Protections) -> io::Result<()> {
    unistd::setsid()?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    if protections.keep(Protection::Descriptors) {
        sys::close_on_exec_from_three();
    }
    sys::reset_signals();
    // After the change of ids, which clears it. The stub may have died before:
    // then its end of the pipe is closed.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let mut watched = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
    if poll(&mut watched, PollTimeout::ZERO)? != 0 {
        sys::exit_now(125);
    }
    Ok(())
}

/// Returns only if that failed.
pub(super) fn execute(spec: &RunSpec) -> Failure {
    let Some(program) = spec.argv.first() else { return not_found(OsStr::new("")) };
    let environment = spec.env.iter().map(|(name, value)| {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        pair
    });
    let strings = c_strings(spec.argv.iter().cloned()).zip(c_strings(environment));
    let Some((arguments, environment)) = strings else {
        let error = io::Error::from_raw_os_error(libc::EINVAL);
        return Failure::new("pass a zero byte to", program, &error);
    };
    let mut refused = None;
    for candidate in candidates(program, &spec.env) {
        let Some(path) = c_string(candidate.clone().into_os_string()) else { continue };
        let Err(errno) = unistd::execve(&path, &arguments, &environment);
        // ENOENT also means a missing interpreter: then the file itself is there.
        let missing = matches!(errno as i32, libc::ENOENT | libc::ENOTDIR) && !candidate.exists();
        if !missing && refused.is_none() {
            refused = Some(not_executable(candidate, errno as i32));
        }
    }
    refused.unwrap_or_else(|| not_found(program))
}

/// Where the program may lie: as it is with a slash in it, else along `PATH`.
fn candidates(program: &OsStr, environment: &[(OsString, OsString)]) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let path = environment.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value.as_os_str());
    let directories = path.as_bytes().split(|byte| *byte == b':');
    directories
        .map(|directory| if directory.is_empty() { b".".as_slice() } else { directory })
        .map(|directory| Path::new(OsStr::from_bytes(directory)).join(program))
        .collect()
}

fn not_found(program: &OsStr) -> Failure {
    let errno = libc::ENOENT;
    Failure { kind: FailureKind::NotFound, action: String::new(), path: program.into(), errno }
}

fn not_executable(path: PathBuf, errno: i32) -> Failure {
    Failure { kind: FailureKind::NotExecutable, action: String::new(), path, errno }
}

fn c_strings(texts: impl Iterator<Item = OsString>) -> Option<Vec<CString>> {
    texts.map(c_string).collect()
}

fn c_string(text: OsString) -> Option<CString> {
    CString::new(text.into_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(program: &str, path: Option<&str>, expected: &[&str]) {
        let environment: Vec<_> = path.map(|path| ("PATH".into(), path.into())).into_iter().collect();
        let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
        assert_eq!(candidates(OsStr::new(program), &environment), expected);
    }

    #[test]
    fn looks_along_the_path() {
        check("sh", Some("/bin:/x"), &["/bin/sh", "/x/sh"]);
        check("sh", Some("/bin:"), &["/bin/sh", "./sh"]);
        check("./sh", Some("/bin"), &["./sh"]);
        check("/bin/sh", None, &["/bin/sh"]);
        assert_eq!(candidates(OsStr::new("sh"), &[]).len(), 6);
    }
}
