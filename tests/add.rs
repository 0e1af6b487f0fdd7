//! ADD: local archives, downloads and git repositories.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use tar::{Builder, EntryType, Header};

use crate::support::web::{Page, Web};
use crate::support::{Bench, as_caller, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials
        .extend(as_everyone("add::archives_unpack_whatever_their_name", archives_unpack_whatever_their_name));
    trials.extend(as_everyone(
        "add::an_archive_merges_into_what_is_there",
        an_archive_merges_into_what_is_there,
    ));
    trials.push(as_caller("add::an_archive_cannot_delete", an_archive_cannot_delete));
    trials.extend(as_everyone("add::downloads", downloads));
    trials.push(as_caller("add::downloads_that_fail", downloads_that_fail));
    trials.push(as_caller(
        "add::an_unchanged_download_is_not_sent_again",
        an_unchanged_download_is_not_sent_again,
    ));
    trials.push(as_caller("add::secrets_open_servers", secrets_open_servers));
    trials.extend(as_everyone("add::repositories", repositories));
    trials.push(as_caller("add::submodules", submodules));
    trials.push(as_caller("add::repositories_that_fail", repositories_that_fail));
    trials.extend(as_everyone("add::queries", queries));
    trials.push(as_caller("add::tokens_open_repositories", tokens_open_repositories));
    trials
}

/// Path (a directory's ends with a slash, a link's has ` -> target`), mode, owner.
fn archive(entries: &[(&str, u32, (u64, u64))]) -> Vec<u8> {
    let entries: Vec<_> = entries.iter().map(|(path, mode, owner)| (*path, *mode, *owner, *path)).collect();
    tar_of(&entries)
}

/// Files of 0644, or links, with their content.
pub fn archive_of(files: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<_> = files.iter().map(|(path, content)| (*path, 0o644, (5, 5), *content)).collect();
    tar_of(&entries)
}

fn tar_of(entries: &[(&str, u32, (u64, u64), &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, mode, (uid, gid), content) in entries {
        let mut header = Header::new_gnu();
        let (name, target) =
            path.split_once(" -> ").map_or((*path, None), |(name, target)| (name, Some(target)));
        header.set_mode(*mode);
        header.set_uid(*uid);
        header.set_gid(*gid);
        header.set_mtime(1_000);
        let content = if name.ends_with('/') || target.is_some() { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_entry_type(match target {
            Some(_) => EntryType::Symlink,
            None if name.ends_with('/') => EntryType::Directory,
            None => EntryType::Regular,
        });
        if let Some(target) = target {
            header.set_link_name(target).unwrap();
        }
        // Past the crate's own checks, which refuse `..`.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

pub fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast());
    let mut packed = Vec::new();
    std::io::Read::read_to_end(&mut encoder, &mut packed).unwrap();
    packed
}

fn archives_unpack_whatever_their_name(mut bench: Bench) {
    let tar = archive(&[("a/", 0o750, (7, 8)), ("a/file", 0o4640, (9, 10))]);
    bench.file("one.txt", &tar);
    bench.file("two", bzip2(&tar));
    bench.file("three.zip", zstd::encode_all(&tar[..], 1).unwrap());
    bench.file("plain.bz2", bzip2(b"no archive"));
    bench.file("name.tar", "no archive");
    bench.dockerfile(
        "FROM scratch\nADD one.txt /one\nADD two /two/\nADD --chown=1:2 --chmod=777 three.zip /three\n\
         ADD --unpack=false two /kept\nADD plain.bz2 name.tar one.txt /mixed/\n",
    );
    let image = bench.build(&["-t", "archives"]);
    for (at, directory, file) in [
        ("one", "0750 7:8", "4640 9:10"),
        ("two", "0750 7:8", "4640 9:10"),
        ("three", "0750 1:2", "4640 1:2"),
        ("mixed", "0750 7:8", "4640 9:10"),
    ] {
        assert_eq!(image.owner(&format!("{at}/a")), directory, "{at}");
        assert_eq!(image.owner(&format!("{at}/a/file")), file, "{at}");
        assert_eq!(image.text(&format!("{at}/a/file")), "a/file", "{at}");
        assert_eq!(image.entry(&format!("{at}/a/file")).mtime, 1_000, "{at}");
    }
    assert_eq!(image.entry("kept").content, bzip2(&tar));
    assert_eq!(image.entry("mixed/plain.bz2").content, bzip2(b"no archive"));
    assert_eq!(image.text("mixed/name.tar"), "no archive");
}

/// The base has `/lib -> usr/lib`, a sticky `/tmp` and `/home/app` of 1000:1000.
fn an_archive_merges_into_what_is_there(mut bench: Bench) {
    bench.file("implied.tar", archive(&[("lib/deep/file", 0o600, (3, 4)), ("tmp/file", 0o600, (3, 4))]));
    bench.file(
        "said.tar",
        archive(&[
            ("lib/", 0o711, (5, 6)),
            ("lib/own", 0o644, (0, 0)),
            ("home", 0o600, (1, 1)),
            ("tmp/", 0o1755, (2, 2)),
        ]),
    );
    bench.dockerfile(
        "FROM BASE AS implied\nADD implied.tar /\nFROM BASE\nADD said.tar /\nRUN test ! -e /home/app\n",
    );
    let image = bench.build(&["-t", "implied", "--target", "implied"]);
    assert_eq!(image.entry("lib").target, "usr/lib");
    assert_eq!(image.owner("usr/lib/deep/file"), "0600 3:4");
    assert_eq!(image.owner("usr/lib/deep"), "0755 0:0");
    assert_eq!(image.owner("tmp"), "1777 0:0");
    let image = bench.build(&["-t", "said"]);
    assert_eq!(image.owner("lib"), "0711 5:6");
    assert_eq!(image.text("lib/own"), "lib/own");
    assert_eq!(image.owner("home"), "0600 1:1");
    assert_eq!(image.owner("tmp"), "1755 2:2");
}

/// What begins with `.wh.` is a file in an archive, which no layer can hold.
fn an_archive_cannot_delete(mut bench: Bench) {
    bench.file("a.tar", archive(&[(".wh.etc", 0o600, (0, 0))]));
    bench.dockerfile("FROM BASE\nADD a.tar /\n");
    bench.fails(&["-t", "no"], 3, ".wh.etc");
}

fn downloads(mut bench: Bench) {
    let tar = archive(&[("a", 0o640, (7, 8))]);
    let web = Web::start(&[
        ("/dir/file.txt", Page::new("hello").last_modified("Sun, 06 Nov 1994 08:49:37 GMT")),
        ("/moved", Page::redirect("/dir/file.txt")),
        ("/a.tar", Page::new(tar.clone())),
        ("/", Page::new("root")),
    ]);
    let at = web.address();
    let digest = coracle::image::Digest::of("hello");
    bench.dockerfile(&format!(
        "FROM scratch\nADD {at}/dir/file.txt?x=1 /one/\nADD --chown=3:4 --chmod=755 {at}/moved /two\n\
         ADD {at}/a.tar /three/\nADD --unpack=true {at}/a.tar /four\nADD {at}/ /five/\n\
         ADD --checksum={digest} --link {at}/dir/file.txt /six\n"
    ));
    let image = bench.build(&["-t", "downloads"]);
    assert_eq!(image.owner("one/file.txt"), "0600 0:0");
    assert_eq!(image.entry("one/file.txt").mtime, 784_111_777);
    assert_eq!(image.text("one/file.txt"), "hello");
    assert_eq!((image.owner("two"), image.text("two")), ("0755 3:4".to_owned(), "hello".to_owned()));
    assert_eq!(image.entry("three/a.tar").content, tar);
    assert_eq!(image.entry("three/a.tar").mtime, 0);
    assert_eq!(image.owner("four/a"), "0640 7:8");
    assert_eq!(image.text("five/__unnamed__"), "root");
    assert_eq!(image.text("six"), "hello");
}

fn downloads_that_fail(mut bench: Bench) {
    let web = Web::start(&[("/file", Page::new("hello"))]);
    let at = web.address();
    bench.dockerfile(&format!("FROM scratch\nADD {at}/none /\n"));
    let said = bench.fails(&["-t", "no"], 3, "404");
    assert!(said.contains("Dockerfile:2") && said.contains(&format!("{at}/none")), "{said}");
    bench.dockerfile(&format!("FROM scratch\nADD --checksum=sha256:{} {at}/file /\n", "0".repeat(64)));
    let said = bench.fails(&["-t", "no"], 3, "another checksum");
    // Both are named: what was promised, and what came.
    assert!(said.contains(&format!("sha256:{}", "0".repeat(64))), "{said}");
    assert!(said.contains(&coracle::image::Digest::of("hello").to_string()), "{said}");
    bench.dockerfile(&format!("FROM scratch\nADD --checksum=sha512:{} {at}/file /\n", "0".repeat(128)));
    bench.fails(&["-t", "no"], 3, "another checksum");
}

fn an_unchanged_download_is_not_sent_again(mut bench: Bench) {
    let web = Web::start(&[("/file", Page::new("one").etag("\"1\""))]);
    bench.dockerfile(&format!("FROM scratch\nADD {}/file /file\n", web.address()));
    let first = bench.build(&["-t", "same"]);
    let second = bench.build(&["-t", "same"]);
    assert_eq!(first.digest, second.digest);
    assert_eq!(web.answers(), [200, 304]);
    web.put("/file", Page::new("two").etag("\"2\""));
    assert_eq!(bench.build(&["-t", "same"]).text("file"), "two");
    assert_eq!(web.answers(), [200, 304, 200]);
}

fn secrets_open_servers(mut bench: Bench) {
    let web = Web::start(&[("/file", Page::new("x").authorization("Bearer t0ken"))]);
    bench.env("TOKEN", "t0ken");
    bench.dockerfile(&format!("FROM scratch\nADD {}/file /file\n", web.address()));
    bench.fails(&["-t", "no"], 3, "401");
    bench.env("OTHER", "swordfish");
    let both = ["-t", "yes", "--secret", "id=HTTP_AUTH_HEADER_127.0.0.1,env=OTHER"];
    let image = bench.build(&[&both[..], &["--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN"]].concat());
    assert_eq!(image.text("file"), "x");
}

/// A repository and `git daemon` in front of it.
pub struct Repository {
    directory: tempfile::TempDir,
    daemon: Child,
    port: u16,
}

impl Repository {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = directory.path().to_str().unwrap().to_owned();
        git(directory.path(), &["init", "-q", "-b", "main", "app.git"]);
        let daemon = Command::new("git")
            .args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .args([format!("--port={port}"), format!("--base-path={base}"), base])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // `git` starts `git-daemon`: both are ended together.
            .process_group(0)
            .spawn()
            .unwrap();
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self { directory, daemon, port }
    }

    pub fn address(&self) -> String {
        format!("git://127.0.0.1:{}/app.git", self.port)
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.directory.path().join("app.git"), arguments)
    }

    /// Writes a file and commits it.
    pub fn commit(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join("app.git").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-qm", name]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // It listens until it is told otherwise; both fail only when it is gone.
        let group = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.daemon.wait();
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn repositories(mut bench: Bench) {
    let repository = Repository::start();
    let first = repository.commit("sub/file", "one");
    repository.git(&["tag", "-a", "-m", "x", "v1"]);
    repository.git(&["config", "core.symlinks", "true"]);
    std::os::unix::fs::symlink("sub", repository.directory.path().join("app.git/link")).unwrap();
    repository.commit("sub/file", "two");
    let at = repository.address();
    bench.dockerfile(&format!(
        "FROM scratch\nADD {at} /head\nADD {at}#v1 /tag/\nADD --chown=5:6 {at}#main:sub /sub/\n\
         ADD --keep-git-dir=true --checksum={first} {at}#v1 /kept/\nADD {at}#{first} /commit/\n\
         ADD --exclude=link {at}#:link /linked/\n"
    ));
    let image = bench.build(&["-t", "repositories"]);
    assert_eq!(image.text("head/sub/file"), "two");
    assert_eq!(image.owner("head/sub/file"), "0644 0:0");
    assert_eq!(image.entry("head/link").target, "sub");
    assert_eq!(image.text("tag/sub/file"), "one");
    assert_eq!(image.text("sub/file"), "two");
    assert_eq!(image.owner("sub/file"), "0644 5:6");
    assert_eq!(image.text("commit/sub/file"), "one");
    assert_eq!(image.text("linked/file"), "two");
    let tree = image.tree();
    assert!(!tree.contains_key("head/.git") && tree.contains_key("kept/.git/HEAD"));
    assert_eq!(image.text("kept/.git/HEAD").trim(), first);
    // Nothing moved: nothing is checked out again.
    assert_eq!(bench.build(&["-t", "repositories"]).digest, image.digest);
    repository.commit("sub/file", "three");
    assert_eq!(bench.build(&["-t", "repositories"]).text("head/sub/file"), "three");
}

fn submodules(mut bench: Bench) {
    let repository = Repository::start();
    let library = repository.directory.path().join("library.git");
    git(repository.directory.path(), &["init", "-q", "-b", "main", "library.git"]);
    fs::write(library.join("code"), "c").unwrap();
    git(&library, &["add", "-A"]);
    git(&library, &["commit", "-qm", "x"]);
    repository.commit("file", "f");
    let local = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../library.git", "lib"];
    repository.git(&[&local[..2], &["-c", "remote.origin.url=../app.git"], &local[2..]].concat());
    repository.commit("other", "o");
    let at = repository.address();
    bench.dockerfile(&format!("FROM scratch\nADD {at} /with/\nADD {at}?submodules=false /without/\n"));
    let image = bench.build(&["-t", "submodules"]);
    assert_eq!(image.text("with/lib/code"), "c");
    let tree = image.tree();
    assert!(!tree.contains_key("with/lib/.git") && !tree.contains_key("without/lib/code"));
}

/// What a query can say (BuildKit's dfgitutil).
fn queries(mut bench: Bench) {
    let repository = Repository::start();
    let first = repository.commit("sub/file", "one");
    repository.git(&["tag", "v1"]);
    repository.commit("sub/file", "two");
    let at = repository.address();
    let time: u64 = repository.git(&["show", "-s", "--format=%ct", "v1"]).trim().parse().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    bench.dockerfile(&format!(
        "FROM scratch\nADD {at}?tag=v1&mtime=commit /time/\nADD {at}?branch=main&subdir=sub /branch/\n\
         ADD {at}?subdir=sub#v1 /both/\nADD {at}?ref=main&commit={first}&fetch-by-commit=true /fixed/\n\
         ADD {at}?ref=v1&checksum={first}&keep-git-dir=1 /kept/\n"
    ));
    let image = bench.build(&["-t", "queries"]);
    assert_eq!(image.text("time/sub/file"), "one");
    assert_eq!(image.entry("time/sub/file").mtime, time);
    assert_eq!(image.text("branch/file"), "two");
    assert!(image.entry("branch/file").mtime > time);
    assert_eq!(image.text("both/file"), "one");
    // The branch has moved on; the commit is what was asked for.
    assert_eq!(image.text("fixed/sub/file"), "one");
    assert!(image.tree().contains_key("kept/.git/HEAD"));
    for (query, part) in [
        (format!("ref=main&checksum={first}"), "another commit"),
        ("ref=main&fetch-by-commit=true".to_owned(), "`fetch-by-commit` needs"),
        ("mtime=now".to_owned(), "neither `commit` nor `checkout`"),
        ("ref=a&ref=b".to_owned(), "twice"),
    ] {
        bench.dockerfile(&format!("FROM scratch\nADD {at}?{query} /\n"));
        bench.fails(&["-t", "no"], 3, part);
    }
}

/// A server that wants a token gets it, from the secret of its name first, and
/// no command line, output or state ever holds it.
fn tokens_open_repositories(mut bench: Bench) {
    use base64::Engine as _;
    const TOKEN: &str = "swordfish-for-git-4714";
    let repository = Repository::start();
    repository.commit("file", "x");
    let bare = bench.path("bare.git");
    let source = repository.directory.path().join("app.git").display().to_string();
    git(&bench.path(""), &["clone", "-q", "--bare", &source, "bare.git"]);
    git(&bare, &["update-server-info"]);
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    let mut pages = Vec::new();
    for path in files(&bare) {
        let name = format!("/app.git/{}", path.strip_prefix(&bare).unwrap().display());
        pages.push((name, Page::new(fs::read(path).unwrap()).authorization(&format!("basic {encoded}"))));
    }
    let pages: Vec<(&str, Page)> = pages.iter().map(|(name, page)| (name.as_str(), page.clone())).collect();
    let web = Web::start(&pages);
    // Every command line of git is written down.
    let wrapper = bench.path("bin");
    fs::create_dir(&wrapper).unwrap();
    let real = which_git();
    let log = bench.path("arguments");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\nexec {real} \"$@\"\n", log.display());
    fs::write(wrapper.join("git"), script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(wrapper.join("git"), executable).unwrap();
    bench.env("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", wrapper.display()));
    bench.env("TOKEN", TOKEN);
    bench.env("WRONG", "swordfish-that-is-wrong");
    bench.env("HEADER", &format!("basic {encoded}"));
    bench.dockerfile(&format!("FROM scratch\nADD {}/app.git /\n", web.address()));
    bench.fails(&["-t", "no"], 3, "git cannot");
    let host = web.address().replace("http://", "");
    let of_host = format!("id=GIT_AUTH_TOKEN.{host},env=TOKEN");
    let header_of_host = format!("id=GIT_AUTH_HEADER.{host},env=HEADER");
    for secrets in [
        &["id=GIT_AUTH_TOKEN,env=TOKEN"][..],
        &["id=GIT_AUTH_HEADER,env=HEADER"],
        &[of_host.as_str(), "id=GIT_AUTH_HEADER,env=WRONG", "id=GIT_AUTH_TOKEN,env=WRONG"],
        &[header_of_host.as_str(), "id=GIT_AUTH_TOKEN,env=WRONG"],
    ] {
        let mut flags = vec!["-t", "yes", "--no-cache"];
        flags.extend(secrets.iter().flat_map(|secret| ["--secret", secret]));
        let run = bench.try_build(&flags);
        assert_eq!(run.code, Some(0), "{secrets:?}: {}", run.stderr);
        assert_eq!(bench.image(&run.digest()).text("file"), "x");
        assert!(!run.stderr.contains(TOKEN) && !run.stderr.contains(&encoded), "{}", run.stderr);
    }
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("ls-remote") && !said.contains(&encoded) && !said.contains("swordfish"), "{said}");
    for path in files(&bench.state()) {
        let bytes = fs::read(&path).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!holds(TOKEN) && !holds(&encoded), "{}", path.display());
    }
}

fn which_git() -> String {
    let found =
        ["/usr/local/bin/git", "/usr/bin/git", "/bin/git"].into_iter().find(|path| Path::new(path).is_file());
    found.expect("git is installed (make setup)").to_owned()
}

fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

fn repositories_that_fail(mut bench: Bench) {
    let repository = Repository::start();
    repository.commit("file", "x");
    let at = repository.address();
    for (source, part) in [
        (format!("{at}#none"), "no branch, tag or ref `none`"),
        (format!("{at}#main:none"), "no directory `none`"),
        (format!("{at}#--upload-pack=x"), "cannot be a ref"),
        (format!("--checksum=0123456 {at}"), "another commit"),
        ("git://127.0.0.1:1/app.git".to_owned(), "git cannot"),
        ("https://x.invalid/a.git?what=1".to_owned(), "`what`"),
    ] {
        bench.dockerfile(&format!("FROM scratch\nADD {source} /\n"));
        bench.fails(&["-t", "no"], 3, part);
    }
}
