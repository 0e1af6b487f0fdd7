//! A secret is where it was asked for, and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use crate::support::{Bench, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = as_everyone("secrets::written_nowhere", written_nowhere);
    trials.extend(as_everyone("secrets::run_cannot_read_the_builder", run_cannot_read_the_builder));
    trials
}

const FILE: &str = "swordfish-in-a-file-4711";
const VARIABLE: &str = "swordfish-in-a-variable-4712";
const PASSWORD: &str = "swordfish-for-the-registry-4713";

/// Everything a build wrote and said is searched for the secrets it was given.
fn written_nowhere(mut bench: Bench) {
    fs::write(bench.path("secret"), FILE).unwrap();
    bench.give(&bench.path("secret"));
    bench.env("TOKEN", VARIABLE);
    let host = bench.guarded_server("ci", PASSWORD).host();
    login(&bench, &host);
    bench.dockerfile(
        "FROM BASE\nRUN --mount=type=secret,id=file --mount=type=secret,id=token,target=/t,required=true \
         wc -c < /run/secrets/file > /seen && wc -c < /t >> /seen\nRUN test ! -s /run/secrets/file\n",
    );
    let name = format!("{host}/team/app:1");
    let flags = ["--secret", "id=file,src=secret", "--secret", "id=token,env=TOKEN", "--push", "-t", &name];
    let run = bench.try_build(&flags);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let image = bench.image(&run.digest());
    assert_eq!(image.text("seen"), format!("{}\n{}\n", FILE.len(), VARIABLE.len()));
    let said = [run.stdout.as_slice(), run.stderr.as_bytes()].concat();
    let holds =
        |bytes: &[u8], secret: &str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
    for secret in [FILE, VARIABLE, PASSWORD] {
        assert!(!holds(&said, secret), "{secret} was printed:\n{}", run.stderr);
        for path in files(&bench.state()).chain(files(&bench.path("out"))) {
            let bytes = inflated(&fs::read(&path).unwrap());
            assert!(!holds(&bytes, secret), "{secret} is in {}", path.display());
        }
    }
}

/// RUN looks for the builder through /proc: its environment, its memory, its root.
fn run_cannot_read_the_builder(mut bench: Bench) {
    bench.env("CORACLE_TEST_MARK", VARIABLE);
    bench.dockerfile(
        "FROM BASE\nRUN for p in /proc/[0-9]*; do for f in environ root/etc/shadow; do \
         if grep -q swordfish $p/$f 2>/dev/null; then echo found $p/$f; exit 1; fi; done; done; \
         for p in /proc/[0-9]*; do test $p = /proc/$$ && continue; \
         if (exec 3< $p/mem) 2>/dev/null; then echo found $p/mem; exit 1; fi; done; echo ok > /ok\n\
         RUN env > /env\n",
    );
    let image = bench.build(&["-t", "proc"]);
    assert_eq!(image.text("ok"), "ok\n");
    assert!(!image.text("env").contains("swordfish"));
}

/// What `docker login` leaves.
fn login(bench: &Bench, host: &str) {
    use base64::Engine as _;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("ci:{PASSWORD}"));
    let directory = bench.path("home/.docker");
    fs::create_dir_all(&directory).unwrap();
    let text = serde_json::json!({"auths": {host: {"auth": auth}}}).to_string();
    fs::write(directory.join("config.json"), text).unwrap();
    bench.give(&directory);
    bench.give(&directory.join("config.json"));
}

fn files(root: &Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries: Vec<_> = fs::read_dir(root).into_iter().flatten().flatten().collect();
    Box::new(entries.into_iter().flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(kind) if kind.is_file() => {
            Box::new(std::iter::once(entry.path())) as Box<dyn Iterator<Item = PathBuf>>
        }
        _ => Box::new(std::iter::empty()),
    }))
}

/// A layer is searched uncompressed.
fn inflated(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read as _;
    let mut out = Vec::new();
    match flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out) {
        Ok(_) => out,
        Err(_not_gzip) => bytes.to_vec(),
    }
}
