//! What lies outside of a RUN, and the signs that a RUN got there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::raw;

/// What an attempt says when a success leaves nothing to find outside.
pub const GOT_IN: &str = "GOT IN";

/// Makes this program somebody who does nothing.
pub const VICTIM: &str = "--victim";

/// Ignored by all who do not ask for it, so that even a control does no harm; the
/// victim holds it back, so that it shows.
pub const HARMLESS: nix::sys::signal::Signal = nix::sys::signal::Signal::SIGURG;

pub fn be_a_victim() -> ExitCode {
    let held = nix::sys::signal::SigSet::from(HARMLESS);
    held.thread_block().unwrap();
    std::thread::sleep(Duration::from_secs(600));
    ExitCode::SUCCESS
}

/// Everything an enemy could know, given away: an attempt may not fail for not
/// having found its target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    pub nonce_name: String,
    pub builder: i32,
    pub victim: i32,
    /// The process group of both.
    pub group: i32,
    pub directory: PathBuf,
    pub descriptor: i32,
    pub secret: PathBuf,
    /// This program, where it lies outside.
    pub program: PathBuf,
    pub canary: PathBuf,
    pub socket: PathBuf,
    pub abstract_socket: String,
    pub port: u16,
    pub address: usize,
    pub length: usize,
    pub memory_key: i32,
    pub handle: Vec<u8>,
}

/// One builder's surroundings.
pub struct World {
    pub nonce: String,
    pub target: Target,
    /// Inherited by whoever is not careful.
    _leak: File,
    victim: Option<Child>,
    calls: Arc<AtomicUsize>,
    memory: &'static [AtomicU8],
    program: PathBuf,
    before: Vec<(String, String)>,
}

/// What must be the same afterwards.
pub const SETTING: &str = "/proc/sys/kernel/core_pipe_limit";
pub const SYS_SETTING: &str = "/sys/kernel/mm/ksm/sleep_millisecs";
/// The same in every /proc, with mode 0444.
pub const SHARED: [&str; 3] = ["/proc/cpuinfo", "/proc/version", "/proc/tty/drivers"];
/// With the modes they have.
const NODES: [(&str, u32); 2] = [("/dev/full", 0o666), ("/dev/null", 0o666)];
/// Where a control group of the attempt's name would show.
pub const GROUPS: [&str; 2] = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];

impl World {
    /// Below `state`; `nonce` is what must not be seen by a RUN.
    pub fn new(state: &Path, nonce: &str) -> io::Result<Self> {
        let directory = state.join("outside");
        fs::create_dir(&directory)?;
        fs::set_permissions(state, fs::Permissions::from_mode(0o755))?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
        let [secret, canary, socket] = ["secret", "canary", "socket"].map(|name| directory.join(name));
        fs::write(&secret, nonce)?;
        fs::write(&canary, "untouched\n")?;
        fs::create_dir(directory.join("trap"))?;
        let calls = Arc::new(AtomicUsize::new(0));
        listen(UnixListener::bind(&socket)?, nonce, &calls);
        let abstract_socket = format!("coracle-escape-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_socket)?;
        listen(UnixListener::bind_addr(&address)?, nonce, &calls);
        let port = listen_tcp(nonce, &calls)?;
        let leak = File::open(&directory)?;
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty())?;
        let memory: Vec<AtomicU8> = nonce.bytes().map(AtomicU8::new).collect();
        let memory: &'static [AtomicU8] = memory.leak();
        std::env::set_current_dir(&directory)?;
        keep_key(nonce);
        let target = Target {
            nonce_name: abstract_socket.clone(),
            builder: std::process::id().cast_signed(),
            victim: 0,
            group: nix::unistd::getpgrp().as_raw(),
            program: std::env::current_exe()?,
            descriptor: leak.as_raw_fd(),
            directory,
            handle: handle(&secret).unwrap_or_default(),
            secret,
            canary,
            socket,
            abstract_socket,
            port,
            address: raw::at(memory),
            length: memory.len(),
            memory_key: share_memory(nonce),
        };
        let (nonce, before) = (nonce.to_owned(), Vec::new());
        let program = std::env::current_exe()?;
        Ok(Self { nonce, target, _leak: leak, victim: None, calls, memory, program, before })
    }

    /// Before each attempt: a new victim, and a look at everything.
    pub fn set(&mut self) -> io::Result<()> {
        self.end_victim();
        self.mend();
        let victim = Command::new("/proc/self/exe")
            .args([VICTIM, &self.nonce])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        self.target.victim = victim.id().cast_signed();
        self.victim = Some(victim);
        self.wait_for_the_victim();
        fs::set_permissions(&self.target.canary, fs::Permissions::from_mode(0o644))?;
        self.calls.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Until it holds its signals back.
    fn wait_for_the_victim(&self) {
        let held = || {
            let path = format!("/proc/{}/status", self.target.victim);
            let status = fs::read_to_string(path).unwrap_or_default();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).map(str::trim);
            mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0)
        };
        for _ in 0..1000 {
            if held() & 1 << (HARMLESS as u64 - 1) != 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How everything is when the RUN starts.
    pub fn remember(&mut self) {
        self.before = self.look();
    }

    /// Everything that shows that somebody was here.
    pub fn signs(&mut self, said: &str) -> Vec<String> {
        let mut signs = Vec::new();
        if said.contains(&self.nonce) {
            signs.push("it said the secret".to_owned());
        }
        if said.contains(GOT_IN) {
            signs.push("it got what is refused".to_owned());
        }
        if self.calls.load(Ordering::Relaxed) != 0 {
            signs.push("it called a socket".to_owned());
        }
        if self.memory.iter().zip(self.nonce.bytes()).any(|(cell, byte)| cell.load(Ordering::SeqCst) != byte)
        {
            signs.push("it wrote to the builder's memory".to_owned());
        }
        let ended = self.victim.as_mut().and_then(|victim| victim.try_wait().ok().flatten());
        signs.extend(ended.map(|status| format!("the victim is dead: {status}")));
        let after = self.look();
        for (name, was) in &self.before {
            let is = after.iter().find(|(other, _)| other == name).map(|(_, is)| is);
            if is != Some(was) {
                signs.push(format!("{name}: {was:?} became {is:?}"));
            }
        }
        let left = self.left();
        if !left.is_empty() {
            signs.push(format!("processes were left: {left:?}"));
        }
        signs
    }

    fn look(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut note = |name: &str, text: String| found.push((name.to_owned(), text));
        let trap = self.target.directory.join("trap");
        for path in [&self.target.directory, &self.target.canary, &trap, &trap.join("dev"), &self.program] {
            note(&path.display().to_string(), facts(path));
        }
        note("canary", fs::read_to_string(&self.target.canary).unwrap_or_default());
        for (path, _) in NODES {
            note(path, facts(Path::new(path)));
        }
        for path in [SETTING, SYS_SETTING] {
            note(path, fs::read_to_string(path).unwrap_or_default());
        }
        for path in GROUPS {
            note(path, Path::new(path).join(&self.target.nonce_name).exists().to_string());
        }
        // Others on this machine mount things too.
        let ours = self.target.directory.parent().unwrap_or(&self.target.directory).to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        note("mounts", mounts.lines().filter(|line| line.contains(&*ours)).collect());
        let victim = self.target.victim;
        note("limits", fs::read_to_string(format!("/proc/{victim}/limits")).unwrap_or_default());
        note("priority", field_of(victim, 16));
        note("scheduler", field_of(victim, 38));
        note("signals", pending(victim));
        found
    }

    /// Processes of an attempt, which have its mark; they are ended.
    fn left(&self) -> BTreeSet<i32> {
        let left: BTreeSet<i32> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                words
                    .windows(self.target.nonce_name.len())
                    .any(|part| part == self.target.nonce_name.as_bytes())
            })
            .filter(|pid| *pid != self.target.builder && *pid != self.target.victim)
            .collect();
        for pid in &left {
            // Gone by itself is gone as well.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
        left
    }

    /// Puts back what a control changed.
    fn mend(&self) {
        for (cell, byte) in self.memory.iter().zip(self.nonce.bytes()) {
            cell.store(byte, Ordering::SeqCst);
        }
        // Whatever is as it was needs nothing; what cannot be mended shows next time.
        for (name, was) in &self.before {
            if (name == SETTING || name == SYS_SETTING) && fs::read_to_string(name).is_ok_and(|is| is != *was)
            {
                let _ = fs::write(name, was);
            }
        }
        for (path, mode) in NODES {
            let mode = fs::Permissions::from_mode(mode);
            if fs::metadata(path).is_ok_and(|found| found.mode() & 0o7777 != mode.mode()) {
                let _ = fs::set_permissions(path, mode);
            }
        }
        for path in SHARED {
            // Whatever this /proc shows of it: it may be older than the change.
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o444));
        }
        for path in GROUPS {
            let _ = fs::remove_dir(Path::new(path).join(&self.target.nonce_name));
        }
        let trap = self.target.directory.join("trap");
        let _ = fs::remove_dir_all(&trap);
        let _ = fs::create_dir(&trap);
        let _ = fs::write(&self.target.canary, "untouched\n");
    }

    fn end_victim(&mut self) {
        if let Some(mut victim) = self.victim.take() {
            // Dead already, perhaps.
            let _ = victim.kill();
            let _ = victim.wait();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_victim();
        self.mend();
        // SysV memory outlives everybody.
        let id = raw::call(libc::SYS_shmget, &[self.target.memory_key as usize, 0, 0]);
        if let Ok(id) = id {
            let _ = raw::call(libc::SYS_shmctl, &[id, libc::IPC_RMID as usize, 0]);
        }
    }
}

/// Mode, owner, times, number of names: all that chmod, chown, utimes and link
/// would change. Reading changes none of it.
fn facts(path: &Path) -> String {
    match fs::symlink_metadata(path) {
        Ok(found) => {
            // Everybody's devices have other users, who change times.
            let ours = found.is_dir() || found.is_file();
            let time = if ours { (found.mtime(), found.mtime_nsec()) } else { (0, 0) };
            format!("{:o} {}:{} {time:?} {} names", found.mode(), found.uid(), found.gid(), found.nlink())
        }
        Err(error) => error.to_string(),
    }
}

/// A field of proc_pid_stat(5), counted from the state: 16 is the nice value, 38
/// the scheduling policy.
fn field_of(pid: i32, place: usize) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().nth(place).unwrap_or_default().to_owned()
}

/// Signals that a process was sent and holds back.
fn pending(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().filter(|line| line.starts_with("SigPnd") || line.starts_with("ShdPnd")).collect()
}

fn listen(listener: UnixListener, nonce: &str, calls: &Arc<AtomicUsize>) {
    let (nonce, calls) = (nonce.to_owned(), Arc::clone(calls));
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            calls.fetch_add(1, Ordering::Relaxed);
            // A caller that hangs up has called.
            let _ = (&caller).write_all(nonce.as_bytes());
        }
    });
}

fn listen_tcp(nonce: &str, calls: &Arc<AtomicUsize>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let (nonce, calls) = (nonce.to_owned(), Arc::clone(calls));
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            calls.fetch_add(1, Ordering::Relaxed);
            let _ = (&caller).write_all(nonce.as_bytes());
        }
    });
    Ok(port)
}

/// A key with the secret in this process's session keyring, which children share.
fn keep_key(nonce: &str) {
    let texts = [c"user".to_bytes_with_nul(), c"coracle-escape".to_bytes_with_nul()];
    // A ring of our own, so that nothing stays. Containers refuse both.
    const JOIN: usize = 1;
    const SESSION: usize = -3_isize as usize;
    let _ = raw::call(libc::SYS_keyctl, &[JOIN, 0]);
    let key = [raw::at(texts[0]), raw::at(texts[1]), raw::at(nonce.as_bytes()), nonce.len(), SESSION];
    let _ = raw::call(libc::SYS_add_key, &key);
}

/// A System V segment with the secret in it; its key.
fn share_memory(nonce: &str) -> i32 {
    let key = 0x00c0_0000 | (std::process::id().cast_signed() & 0xf_ffff);
    let flags = (libc::IPC_CREAT | 0o600) as usize;
    let filled = raw::call(libc::SYS_shmget, &[key as usize, 4096, flags])
        .and_then(|id| raw::call(libc::SYS_shmat, &[id, 0, 0]))
        .and_then(|place| fill(place, nonce));
    // Where there is none, the attempt fails and its control says so.
    let _ = filled;
    key
}

/// Through a pipe: the kernel writes to the address.
fn fill(place: usize, text: &str) -> io::Result<()> {
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(text.as_bytes())?;
    raw::call(libc::SYS_read, &[reader.as_raw_fd() as usize, place, text.len()])?;
    raw::call(libc::SYS_shmdt, &[place]).map(drop)
}

/// `struct file_handle` of a file (name_to_handle_at(2)).
fn handle(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0_u8; 8 + 128];
    bytes[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let mut mount = 0_i32;
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    let here = libc::AT_FDCWD as isize as usize;
    let arguments =
        [here, raw::at(path.as_bytes_with_nul()), bytes.as_mut_ptr() as usize, &raw mut mount as usize, 0];
    raw::call(libc::SYS_name_to_handle_at, &arguments)?;
    Ok(bytes)
}

/// All of a stream, for attempts that call.
pub fn hear(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 256];
    let count = stream.read(&mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}
