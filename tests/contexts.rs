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
