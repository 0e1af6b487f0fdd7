//! `RUN --mount=type=ssh`: OpenSSH's own client in the RUN, its agent or key
//! files behind the build.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;

use crate::support::container::{Container, DOCKER_DEFAULT};
use crate::support::{Bench, as_everyone, plain};

pub fn trials() -> Vec<Trial> {
    if let Some(reason) = missing() {
        return vec![plain("ssh", reason)];
    }
    let mut trials = as_everyone("ssh::an_agent_signs_and_is_not_changed", an_agent_signs_and_is_not_changed);
    trials.extend(as_everyone("ssh::keys_sign", keys_sign));
    trials.extend(as_everyone("ssh::owner_mode_and_target", owner_mode_and_target));
    trials.extend(as_everyone("ssh::a_missing_agent", a_missing_agent));
    trials.extend(as_everyone("ssh::with_one_id", with_one_id));
    trials.push(match Container::missing() {
        Some(_) => plain("ssh::in_a_container", || Err(Container::missing().unwrap_or_default())),
        None => crate::support::as_caller("ssh::in_a_container", in_a_container),
    });
    trials
}

fn missing() -> Option<fn() -> Result<(), String>> {
    let there = ["ssh-add", "ssh-agent", "ssh-keygen"].iter().all(|name| which(name).is_some());
    (!there).then_some(|| Err("OpenSSH is not installed (package openssh-client)".to_owned()))
}

fn which(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"].iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

/// Puts two clients and the libraries they need into the context; the beginning
/// of a Dockerfile that has them in an image.
fn client(bench: &Bench) -> String {
    let programs = ["ssh-add", "ssh-keygen"].map(|name| which(name).unwrap());
    let listed = Command::new("ldd").args(&programs).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    let libraries: BTreeSet<&str> = libraries.collect();
    let mut dockerfile = "FROM BASE\nCOPY --chmod=755 libraries/ /usr/lib/\n\
                          COPY --chmod=755 ssh-* /usr/bin/\nCOPY key*.pub /keys/\n"
        .to_owned();
    for library in libraries.into_iter().map(Path::new) {
        let name = library.file_name().unwrap().to_str().unwrap();
        bench.file(&format!("libraries/{name}"), fs::read(library).unwrap());
        // The linker lies where the program says, libraries where the linker looks.
        if name.starts_with("ld-") && !library.starts_with("/lib/") {
            dockerfile.push_str(&format!("COPY --chmod=755 libraries/{name} {}\n", library.display()));
        }
    }
    for program in programs {
        bench.file(program.file_name().unwrap().to_str().unwrap(), fs::read(&program).unwrap());
    }
    dockerfile
}

/// The key `key-KIND` of the bench.
fn make_key(bench: &Bench, kind: &str, bits: &str) {
    let path = bench.path(&format!("key-{kind}"));
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "me@bench", "-f"])
        .arg(&path)
        .status();
    assert!(status.unwrap().success());
    bench.give(&path);
    bench.file(&format!("key-{kind}.pub"), fs::read(path.with_extension("pub")).unwrap());
}

/// An agent with the key `key-ed25519`; ends with the test.
struct RealAgent {
    child: Child,
    socket: PathBuf,
}

impl RealAgent {
    fn start(bench: &Bench) -> Self {
        let socket = bench.path("home/agent.sock");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        if bench.user() != crate::support::User::caller() {
            std::os::unix::process::CommandExt::uid(&mut command, bench.user().uid);
            std::os::unix::process::CommandExt::gid(&mut command, bench.user().gid);
        }
        let child = command.spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !socket.exists() {
            assert!(std::time::Instant::now() < deadline, "ssh-agent makes no socket");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let agent = Self { child, socket };
        make_key(bench, "ed25519", "256");
        let key = bench.path("key-ed25519");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(&key).env("SSH_AUTH_SOCK", &agent.socket);
        if bench.user() != crate::support::User::caller() {
            std::os::unix::process::CommandExt::uid(&mut add, bench.user().uid);
        }
        assert!(add.status().unwrap().success());
        agent
    }

    fn keys(&self) -> usize {
        let listed = Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &self.socket).output().unwrap();
        String::from_utf8(listed.stdout).unwrap().matches("me@bench").count()
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        // It has ended already unless the test failed on the way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lists, signs with each key and checks that, and tries to remove the keys.
const ASK: &str = "RUN --mount=type=ssh,required=true test -S $SSH_AUTH_SOCK && echo at $SSH_AUTH_SOCK \
                   && ssh-add -l && for key in /keys/*.pub; do echo text > /text \
                   && ssh-keygen -q -Y sign -n test -f $key < /text > /signed \
                   && ssh-keygen -Y check-novalidate -n test -s /signed < /text || exit 1; done \
                   && rm -f /text /signed && if ssh-add -D; then false; fi && echo > /done\n";

fn an_agent_signs_and_is_not_changed(mut bench: Bench) {
    let client = client(&bench);
    let agent = RealAgent::start(&bench);
    bench.dockerfile(&format!("{client}{ASK}"));
    bench.env("SSH_AUTH_SOCK", &agent.socket.display().to_string());
    let run = bench.try_build(&["-t", "x", "--ssh", "default"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("at /run/buildkit/ssh_agent.0") && run.stderr.contains("me@bench"));
    bench.assert_clean();
    let image = bench.image(&run.digest());
    // No trace: neither the socket nor the directories above it.
    let last = image.layers.last().unwrap();
    let paths: Vec<&str> = last.iter().map(|entry| entry.path.trim_end_matches('/')).collect();
    assert!(!paths.iter().any(|path| path.contains("run")), "{paths:?}");
    assert!(image.tree().contains_key("done") && !image.tree().contains_key("run"));
    if bench.user() == crate::support::User::caller() {
        assert_eq!(agent.keys(), 1);
    }
    // The agent counts for no key: another one, or none, and the step is known.
    let again = bench.try_build(&["-t", "x"]);
    assert_eq!(again.digest(), run.digest());
}

fn keys_sign(mut bench: Bench) {
    let client = client(&bench);
    let kinds = [("ed25519", "256"), ("rsa", "2048"), ("ecdsa", "256")];
    for (kind, bits) in kinds {
        make_key(&bench, kind, bits);
    }
    bench.dockerfile(&format!("{client}{ASK}"));
    let run = bench.try_build(&["-t", "x", "--ssh", "default=key-ed25519,key-rsa,key-ecdsa"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.stderr.matches("me@bench").count(), kinds.len(), "{}", run.stderr);
    assert_eq!(run.stderr.matches("Good \"test\" signature").count(), kinds.len(), "{}", run.stderr);
    bench.assert_clean();
}

fn owner_mode_and_target(mut bench: Bench) {
    make_key(&bench, "ed25519", "256");
    let client = client(&bench);
    bench.dockerfile(&format!(
        "{client}ENV SSH_AUTH_SOCK=/mine\nRUN \
         --mount=type=ssh,target=/mine,uid=1000,gid=33,mode=0620 --mount=type=ssh,id=none \
         --mount=type=ssh,id=other \
         stat -c '%a %u:%g' /mine /run/buildkit/ssh_agent.2 > /seen; ls /run/buildkit >> /seen\n\
         USER 1000\nRUN --mount=type=ssh,uid=1000,target=/mine ssh-add -l\n"
    ));
    let flags = ["-t", "x", "--ssh", "default=key-ed25519", "--ssh", "other=key-ed25519"];
    let image = bench.build(&flags);
    assert_eq!(image.text("seen"), "620 1000:33\n600 0:0\nssh_agent.2\n");
    assert!(!image.tree().contains_key("mine"));
}

/// Where one id exists the socket has its owner and mode all the same.
fn with_one_id(mut bench: Bench) {
    make_key(&bench, "ed25519", "256");
    let client = client(&bench);
    bench.dockerfile(&format!(
        "{client}{ASK}USER 1000\nRUN --mount=type=ssh,uid=1000,gid=1000 ssh-add -l && \
         test \"$(stat -c '%a %u:%g' $SSH_AUTH_SOCK)\" = '600 1000:1000'\n\
         RUN --mount=type=ssh,uid=1001 ! ssh-add -l\n"
    ));
    let run = bench.try_build(&["-t", "x", "--isolation", "single", "--ssh", "default=key-ed25519"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("isolation of RUN: single"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("me@bench").count(), 2, "{}", run.stderr);
    bench.assert_clean();
    assert!(!bench.image(&run.digest()).tree().contains_key("run"));
}

fn a_missing_agent(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE\nRUN --mount=type=ssh,id=x echo $SSH_AUTH_SOCK > /seen; test ! -e $SSH_AUTH_SOCK\n",
    );
    assert_eq!(bench.build(&["-t", "x"]).text("seen"), "/run/buildkit/ssh_agent.0\n");
    bench.dockerfile("FROM BASE\nRUN --mount=type=ssh,id=x,required true\n");
    let said = bench.fails(&["-t", "x"], 3, "--ssh x");
    assert!(said.contains("Dockerfile:2"), "{said}");
    bench.fails(&["-t", "x", "--ssh", "default"], 2, "SSH_AUTH_SOCK");
    bench.fails(&["-t", "x", "--ssh", "x=Dockerfile.none"], 2, "the SSH agent `x`");
    bench.file(
        "../locked",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    bench.fails(&["-t", "x", "--ssh", "x=locked"], 2, "ssh-add");
}

/// The same on the rung `chroot`, where the socket is moved into the tree.
fn in_a_container(mut bench: Bench) {
    let client = client(&bench);
    make_key(&bench, "ed25519", "256");
    bench.dockerfile(&format!(
        "{client}{ASK}USER 1000\nRUN --mount=type=ssh,uid=1000 ssh-add -l && id > /tmp/id\n"
    ));
    let key = fs::read(bench.path("key-ed25519")).unwrap();
    bench.file("key", key);
    let run = DOCKER_DEFAULT.build(&bench, &["-t", "x", "--ssh", "default=context/key"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("isolation of RUN: chroot"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("me@bench").count(), 2, "{}", run.stderr);
    bench.assert_clean();
    let image = bench.image(&run.digest());
    assert!(!image.tree().contains_key("run"));
}
