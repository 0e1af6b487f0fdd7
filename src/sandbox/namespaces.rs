//! The rungs `namespaces` and `mounts`, as the builder sees them: start a stub,
//! follow it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{self, Pid};
use rustix::fs::{MemfdFlags, SealFlags};

use super::message::{self, Message, Order};
use super::protections::Protection;
use super::spec::{Exit, OutputStream, Root, RunSpec};
use super::stub::{MARKER, NAME};
use super::{Error, Rung, Sandbox, mounts, target};

/// How often `cancelled` is asked, in milliseconds.
const LOOK_AROUND: u8 = 100;

/// How long a stub may take to end everything before it is killed itself.
const GRACE: Duration = Duration::from_secs(2);

/// How long the seal of a fresh copy is asked for.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);

/// RUN in namespaces of its own.
pub(super) struct Namespaces {
    rung: Rung,
    /// This program, sealed in memory; made at the first RUN.
    program: Mutex<Option<Arc<OwnedFd>>>,
    /// Tells the stub which rung it carries.
    marker: &'static str,
}

impl Namespaces {
    /// `rung` says whether the users are among them.
    pub(super) fn new(rung: Rung) -> Self {
        Self::with_marker(rung, MARKER)
    }

    /// The same flow, with a stub that does another rung's work.
    pub(super) fn with_marker(rung: Rung, marker: &'static str) -> Self {
        Self { rung, program: Mutex::new(None), marker }
    }

    fn program(&self) -> Result<Arc<OwnedFd>, Error> {
        // A panic elsewhere leaves the option as it was: whole.
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = &*program {
            return Ok(Arc::clone(program));
        }
        let sealed = Arc::new(sealed_copy().map_err(during("copy this program into memory"))?);
        *program = Some(Arc::clone(&sealed));
        Ok(sealed)
    }
}

impl Sandbox for Namespaces {
    fn rung(&self) -> Rung {
        self.rung
    }

    fn run(
        &self,
        spec: &RunSpec,
        output: &mut dyn FnMut(OutputStream, &[u8]),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Exit, Error> {
        // From here on a process of the same user can neither read the memory
        // and environment of the builder nor its descriptors (ptrace(2)).
        prctl::set_dumpable(!spec.protections.keep(Protection::Undumpable))
            .map_err(|errno| during("hide the builder's memory")(errno.into()))?;
        let program = match spec.protections.keep(Protection::SealedProgram) {
            true => self.program()?,
            false => Arc::new(File::open("/proc/self/exe").map_err(during("open this program"))?.into()),
        };
        let mut carrier = Carrier::start(&program, self.marker, spec)?;
        let followed = carrier.follow(output, cancelled);
        let ended = carrier.end();
        let messages = message::parse(&carrier.said).map_err(during("understand the stub"))?;
        remove_stubs(&spec.root, &messages)?;
        followed?;
        exit(messages).unwrap_or(Err(Error::StubDied(ended)))
    }
}

/// Write sealed: not even this process can change it any more.
fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Where sysctl vm.memfd_noexec asks for it execution must be named; older
    // kernels do not know the flag.
    let memory = rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(NAME, flags))?;
    let mut memory = File::from(memory);
    io::copy(&mut File::open("/proc/self/exe")?, &mut memory)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    seal(&memory, seals)?;
    Ok(memory.into())
}

/// On a busy machine the kernel may hold pages of the copy for a while, and
/// refuses the seal meanwhile (EBUSY, memfd_wait_for_pins).
fn seal(memory: &File, seals: SealFlags) -> io::Result<()> {
    let deadline = Instant::now() + SEAL_PATIENCE;
    loop {
        match rustix::fs::fcntl_add_seals(memory, seals) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return Ok(other?),
        }
    }
}

/// Says how it ended, if it did.
fn exit(messages: Vec<Message>) -> Option<Result<Exit, Error>> {
    let mut result = None;
    for message in messages {
        match message {
            Message::Stubs(_) => {}
            Message::Failed(failure) => return Some(Err(failure.into_error())),
            Message::Code(code) => result = Some(Ok(Exit::Code(code))),
            Message::Signal(signal) => result = Some(Ok(Exit::Signal(signal))),
        }
    }
    result
}

/// The RUN is over, its mounts are gone: now the mount points lie bare in the
/// upper directory or the plain root.
fn remove_stubs(root: &Root, messages: &[Message]) -> Result<(), Error> {
    let root: &Path = match root {
        Root::Overlay { upper, .. } => upper,
        Root::Plain(path) => path,
    };
    for message in messages {
        if let Message::Stubs(stubs) = message {
            target::remove_stubs(root, stubs).map_err(during("remove the mount points of the RUN"))?;
        }
    }
    Ok(())
}

/// A running stub.
struct Carrier {
    child: Child,
    channel: UnixStream,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What came over the channel.
    said: Vec<u8>,
    gone: bool,
}

impl Carrier {
    fn start(program: &OwnedFd, marker: &str, spec: &RunSpec) -> Result<Self, Error> {
        let (mut channel, theirs) = UnixStream::pair().map_err(during("make a socket pair"))?;
        let mut child = Command::new(mounts::link(program))
            .arg0(NAME)
            .arg(marker)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(during("start the stub"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let order = Order::new(spec, unistd::getpid().as_raw());
        let sent = message::send(&mut channel, &order);
        let carrier = Self { child, channel, stdout, stderr, said: Vec::new(), gone: false };
        // A stub that died early is explained by how it died, in `follow`.
        match sent {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(during("send the order to the stub")(error))
            }
            _ => carrier.without_blocking().map_err(during("follow the stub")),
        }
    }

    fn without_blocking(self) -> io::Result<Self> {
        self.channel.set_nonblocking(true)?;
        let outputs = [self.stdout.as_ref().map(AsFd::as_fd), self.stderr.as_ref().map(AsFd::as_fd)];
        for fd in outputs.into_iter().flatten() {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        Ok(self)
    }

    /// Until the stub closes its channel, which it does by ending. A process
    /// that holds the output open cannot outlive pid 1 of its namespace.
    fn follow(
        &mut self,
        output: &mut dyn FnMut(OutputStream, &[u8]),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let mut asked: Option<Instant> = None;
        loop {
            if asked.is_none() && cancelled() {
                asked = Some(Instant::now());
                self.signal(Signal::SIGTERM);
            }
            if asked.is_some_and(|since| since.elapsed() > GRACE) {
                self.signal(Signal::SIGKILL);
            }
            self.wait_for_news().map_err(during("wait for the RUN"))?;
            // What was said before the stub ended is all there once it has.
            let ended = self.listen().map_err(during("read from the stub"))?;
            self.pass_on(output).map_err(during("read the output of the RUN"))?;
            if ended {
                return if asked.is_some() { Err(Error::Cancelled) } else { Ok(()) };
            }
        }
    }

    fn wait_for_news(&self) -> io::Result<()> {
        let sources = [
            Some(self.channel.as_fd()),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ];
        let mut watched: Vec<PollFd<'_>> = sources
            .into_iter()
            .flatten()
            .map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut watched, PollTimeout::from(LOOK_AROUND)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn listen(&mut self) -> io::Result<bool> {
        let said = &mut self.said;
        drain(&mut self.channel, usize::MAX, &mut |bytes| said.extend_from_slice(bytes))
    }

    fn pass_on(&mut self, output: &mut dyn FnMut(OutputStream, &[u8])) -> io::Result<()> {
        pass_on(&mut self.stdout, OutputStream::Stdout, output)?;
        pass_on(&mut self.stderr, OutputStream::Stderr, output)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // Not waited for yet, so the number is still its own; it may be dead.
        let _ = kill(pid, signal);
    }

    /// Makes sure that it is gone, and says how it went.
    fn end(&mut self) -> String {
        self.gone = true;
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Carrier {
    /// On an error in between: nothing of the RUN may stay.
    fn drop(&mut self) {
        if !self.gone {
            self.signal(Signal::SIGTERM);
            // Nobody is left who could be told.
            let _ = self.child.wait();
        }
    }
}

/// At most so much of one stream before the other has its turn.
const TURN: usize = 1 << 20;

fn pass_on(
    source: &mut Option<impl Read>,
    stream: OutputStream,
    output: &mut dyn FnMut(OutputStream, &[u8]),
) -> io::Result<()> {
    if let Some(reader) = source
        && drain(reader, TURN, &mut |bytes| output(stream, bytes))?
    {
        *source = None;
    }
    Ok(())
}

/// Reads what is there; says whether the end was reached. Interrupted reads
/// and ends that come as a reset are what they mean.
fn drain(reader: &mut impl Read, most: usize, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    let mut taken = 0;
    while taken < most {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => {
                take(&buffer[..count]);
                taken += count;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn during(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Start { action, source }
}
