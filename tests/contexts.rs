//! Contexts that are no directory.

use std::io::Write;
use std::process::Stdio;

use libtest_mimic::Trial;

use crate::add::{Repository, archive_of, bzip2};
use crate::support::web::{Page, Web};
use crate::support::{Bench, Run, as_caller, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(as_everyone("contexts::archives", archives));
    trials.extend(as_everyone("contexts::standard_input", standard_input));
    trials.extend(as_everyone("contexts::servers", servers));
    trials.extend(as_everyone("contexts::repositories", repositories));
    trials.push(as_caller("contexts::an_archive_stays_inside", an_archive_stays_inside));
    trials.extend(as_everyone("contexts::from_a_directory", from_a_directory));
    trials.extend(as_everyone("contexts::layouts", layouts));
    trials.push(as_caller("contexts::layouts_that_fail", layouts_that_fail));
    trials.extend(as_everyone("contexts::dockerfiles_from_elsewhere", dockerfiles_from_elsewhere));
    trials
}

const DOCKERFILE: &str = "FROM scratch\nCOPY . /all/\n";

fn context() -> Vec<u8> {
    archive_of(&[
        ("Dockerfile", DOCKERFILE),
        (".dockerignore", "note\n"),
        ("note", "n"),
        ("other.file", "FROM scratch\nCOPY note /other\n"),
        (".wh.note", "w"),
    ])
}

fn built(bench: &Bench, run: Run) -> crate::support::image::Image {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    bench.assert_clean();
    bench.image(&run.digest())
}

fn archives(bench: Bench) {
    let other = archive_of(&[("Dockerfile", DOCKERFILE), (".dockerignore", "note\n"), ("note", "n")]);
    bench.file("../context.tar", &other);
    bench.file("../context.txt", bzip2(&other));
    for name in ["context.tar", "context.txt"] {
        let image = built(&bench, bench.coracle(&["build", "-t", "tar", name]));
        // BuildKit spares nothing of what is here already.
        assert_eq!(image.text("all/note"), "n", "{name}");
        assert_eq!(image.owner("all/note"), "0644 0:0", "{name}");
    }
    bench.file("../plain", "FROM scratch\n");
    bench.coracle(&["build", "plain"]).assert_fails(2, "neither a directory nor an archive");
}

fn with_input(bench: &Bench, arguments: &[&str], input: &[u8]) -> Run {
    let mut child = bench.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let run = Run::of(child);
    writer.join().unwrap();
    run
}

fn standard_input(bench: Bench) {
    let packed = zstd::encode_all(&context()[..], 1).unwrap();
    let run = with_input(&bench, &["build", "-t", "in", "-f", "other.file", "-"], &packed);
    assert_eq!(built(&bench, run).text("other"), "n");
    let run = with_input(&bench, &["build", "-t", "in", "-"], b"FROM scratch\nLABEL a=b\n");
    assert_eq!(built(&bench, run).config["config"]["Labels"]["a"], "b");
    with_input(&bench, &["build", "-"], b"FROM scratch\nCOPY a /\n").assert_fails(3, "no build context");
    with_input(&bench, &["build", "-f", "x", "-"], b"FROM scratch\n")
        .assert_fails(2, "another one was named");
}

fn servers(mut bench: Bench) {
    let other = archive_of(&[("sub/file", "f"), ("Dockerfile", "FROM scratch\nCOPY sub /sub\n")]);
    let web = Web::start(&[
        ("/context.tar", Page::new(other)),
        ("/Dockerfile", Page::new("FROM scratch\nLABEL a=b\n")),
    ]);
    let address = format!("{}/context.tar", web.address());
    let image = built(&bench, bench.coracle(&["build", "-t", "web", &address]));
    assert_eq!(image.text("sub/file"), "f");
    let alone = format!("{}/Dockerfile", web.address());
    let image = built(&bench, bench.coracle(&["build", "-t", "web", &alone]));
    assert_eq!(image.config["config"]["Labels"]["a"], "b");
    bench.dockerfile("FROM scratch\nCOPY --from=other sub/file /file\n");
    let image = bench.build(&["-t", "named", "--build-context", &format!("other={address}")]);
    assert_eq!(image.text("file"), "f");
    let none = format!("{}/none", web.address());
    bench.coracle(&["build", &none]).assert_fails(3, "404");
}

fn repositories(mut bench: Bench) {
    let repository = Repository::start();
    repository.commit("app/Dockerfile", DOCKERFILE);
    repository.commit("app/note", "n");
    let address = format!("{}#main:app", repository.address());
    let image = built(&bench, bench.coracle(&["build", "-t", "git", &address]));
    assert_eq!(image.text("all/note"), "n");
    assert!(!image.tree().contains_key("all/.git"));
    bench.dockerfile("FROM scratch\nCOPY --from=other note /note\n");
    let image = bench.build(&["-t", "named", "--build-context", &format!("other={address}")]);
    assert_eq!(image.text("note"), "n");
}

fn an_archive_stays_inside(bench: Bench) {
    bench.file("../Outside", "FROM scratch\nLABEL out=side\n");
    let outside = bench.path("Outside");
    bench.file("../link.tar", archive_of(&[(&format!("Dockerfile -> {}", outside.display()), "")]));
    bench.coracle(&["build", "link.tar"]).assert_fails(3, "Dockerfile");
    bench.file("../up.tar", archive_of(&[("../up", "x"), ("Dockerfile", DOCKERFILE)]));
    bench.coracle(&["build", "up.tar"]).assert_fails(3, "cannot unpack the build context");
    assert!(!bench.path("up").exists());
}

/// A directory after FROM is scratch with its files, less what its own ignore
/// file hides; whoever owns them outside, they are root's.
fn from_a_directory(mut bench: Bench) {
    bench.file("../base/etc/motd", "m");
    bench
        .file("../base/bin/sh", std::fs::read("/bin/busybox").or(std::fs::read("/usr/bin/busybox")).unwrap());
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bench.path("base/bin/sh"), executable).unwrap();
    bench.file("../base/hidden", "h");
    bench.file("../base/.dockerignore", "hidden\n");
    bench.file("motd", "other");
    bench.dockerfile("FROM files AS one\nRUN echo made > /made\nFROM one\nCOPY --from=files /etc/motd /copy\nCOPY motd /\n");
    let flags = ["-t", "x", "--build-context", "files=base"];
    let image = bench.build(&flags);
    assert_eq!(
        (image.text("made"), image.text("copy"), image.text("motd")),
        ("made\n".into(), "m".into(), "other".into())
    );
    assert_eq!(image.owner("bin/sh"), "0755 0:0");
    assert!(!image.tree().contains_key("hidden") && image.tree().contains_key(".dockerignore"));
    assert_eq!(image.config["config"]["WorkingDir"], "/");
    assert_eq!(image.layers.len(), image.config["rootfs"]["diff_ids"].as_array().unwrap().len());
    // The same content is the same image; other content is another.
    assert_eq!(bench.build(&flags).digest, image.digest);
    bench.file("../base/etc/motd", "changed");
    assert_eq!(bench.build(&flags).text("etc/motd"), "changed");
    // The stage of the name is gone with all it does.
    bench.dockerfile("FROM BASE AS files\nRUN false\nFROM files\n");
    let image = bench.build(&flags);
    assert_eq!(image.text("etc/motd"), "changed");
    assert_eq!(image.tree().len(), 5, "{:?}", image.tree().keys());
    bench.dockerfile("FROM files\nCOPY motd /\n");
    let image = bench.build(&["-t", "x", "--build-context", "files=docker-image://scratch"]);
    assert_eq!(image.tree().len(), 1);
}

fn layouts(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nENV A=b\nRUN echo one > /one\n");
    let base = bench.build(&["-t", "r.example/team/one:1", "-o", "type=oci,dest=out/layout"]);
    bench.dockerfile("FROM BASE\nRUN echo two > /one\n");
    bench.build(&["-t", "two", "-o", "type=oci,dest=out/layout"]);
    bench.dockerfile(
        "FROM lay\nRUN --mount=from=lay,target=/l echo $A $(cat /l/one) > /seen\nCOPY --from=lay:latest /one /copy\n",
    );
    // Another state directory: nothing of the base is there.
    assert_eq!(bench.coracle(&["purge"]).code, Some(0));
    let digest = format!("lay=oci-layout://out/layout@{}", base.digest);
    for source in ["lay=oci-layout://out/layout:1", digest.as_str()] {
        let image = bench.build(&["-t", "x", "--build-context", source]);
        assert_eq!(
            (image.text("seen"), image.text("copy")),
            ("b one\n".to_owned(), "one\n".to_owned()),
            "{source}"
        );
        let inherited = &image.config["rootfs"]["diff_ids"].as_array().unwrap()[..base.layers.len()];
        assert_eq!(inherited, base.config["rootfs"]["diff_ids"].as_array().unwrap());
    }
}

fn layouts_that_fail(mut bench: Bench) {
    bench.file("note", "n");
    bench.dockerfile("FROM scratch\nCOPY note /\n");
    for name in ["x:one", "x:two"] {
        bench.build(&["-t", name, "--label", &format!("n={name}"), "-o", "type=oci,dest=out/layout"]);
    }
    bench.dockerfile("FROM lay\n");
    let fails = |source: &str, part: &str| {
        let source = format!("lay=oci-layout://{source}");
        bench.fails(&["-t", "x", "--build-context", &source], 3, part);
    };
    fails("out/none", "index.json");
    fails("out/layout", "it has `one`, `two`");
    fails("out/layout@sha256:12", "is no digest");
    std::fs::remove_dir_all(bench.state().join("blobs")).unwrap();
    for blob in std::fs::read_dir(bench.path("out/layout/blobs/sha256")).unwrap().flatten() {
        std::fs::write(blob.path(), "{}").unwrap();
    }
    fails("out/layout:two", "is damaged");
}

fn dockerfiles_from_elsewhere(bench: Bench) {
    bench.file("note", "n");
    bench.file(".dockerignore", "hidden\n");
    bench.file("hidden", "h");
    bench.file("ignored.Dockerfile", "FROM scratch\nCOPY hidden /\n");
    let web = Web::start(&[
        ("/d/Dockerfile", Page::new(DOCKERFILE)),
        ("/moved", Page::redirect("/d/Dockerfile")),
        ("/context.tar", Page::new(archive_of(&[("note", "tar")]))),
    ]);
    let at = web.address();
    // A directory, an archive by URL, and one on standard input.
    let image = built(&bench, bench.coracle(&["build", "-t", "x", "-f", &format!("{at}/moved"), "context"]));
    assert_eq!(image.text("all/note"), "n");
    assert!(!image.tree().contains_key("all/hidden"));
    let file = format!("{at}/d/Dockerfile");
    let image =
        built(&bench, bench.coracle(&["build", "-t", "x", "-f", &file, &format!("{at}/context.tar")]));
    assert_eq!(image.text("all/note"), "tar");
    let archive = archive_of(&[("note", "input")]);
    let run = with_input(&bench, &["build", "-t", "x", "-f", &file, "-"], &archive);
    assert_eq!(built(&bench, run).text("all/note"), "input");
    // The Dockerfile on standard input, with each kind of context.
    let run = with_input(&bench, &["build", "-t", "x", "-f", "-", "context"], DOCKERFILE.as_bytes());
    assert_eq!(built(&bench, run).text("all/note"), "n");
    let tar = format!("{at}/context.tar");
    let run = with_input(&bench, &["build", "-t", "x", "-f", "-", &tar], DOCKERFILE.as_bytes());
    assert_eq!(built(&bench, run).text("all/note"), "tar");
    bench.coracle(&["build", "-f", &format!("{at}/none"), "context"]).assert_fails(3, "404");
    bench.coracle(&["build", "-f", &format!("{at}/x.git"), "context"]).assert_fails(2, "no HTTP address");
}
