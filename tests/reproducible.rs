//! The same input gives the same digest: twice, and whoever builds.

use libtest_mimic::{Completion, Trial};

use crate::support::{Bench, User, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = as_everyone("reproducible::twice", twice);
    trials.extend(as_everyone("reproducible::no_change_under_an_epoch", no_change_under_an_epoch));
    trials.push(Trial::ignorable_test("reproducible::root_and_ordinary_user", || {
        match (User::root(), User::ordinary()) {
            (Ok(root), Ok(ordinary)) => {
                root_and_ordinary_user(root, ordinary);
                Ok(Completion::Completed)
            }
            (Err(reason), _) | (_, Err(reason)) => Ok(Completion::ignored_with(reason)),
        }
    }));
    trials
}

const DOCKERFILE: &str = "FROM AWKWARD AS first\nRUN mkdir /made && echo x > /made/file && chown -R 33:44 /made \
    && ln /made/file /made/hard && mkfifo /made/fifo && chmod u+s /made/file && cp -a /opt /again && touch -d @12345 /made\n\
    RUN rm /opt/setuid && chmod 700 /var/lib\nFROM AWKWARD\nCOPY --from=first /made /made\nCOPY tree /tree\n\
    COPY --chown=app --chmod=640 note /home/app/\nWORKDIR /work\nUSER app\nRUN id > /tmp/id\nLABEL a=b\n";

fn prepare(bench: &mut Bench) {
    bench.env("SOURCE_DATE_EPOCH", "1700000000");
    bench.file("tree/a/b", "b");
    bench.file("tree/z", "z");
    bench.file("note", "n");
    bench.dockerfile(DOCKERFILE);
}

/// The digest of the same Dockerfile; only the registry's port differs, and
/// that must not reach the image.
fn digest(user: User) -> (String, String) {
    let mut bench = Bench::new(user);
    prepare(&mut bench);
    let image = bench.build(&["-t", "same", "--no-cache"]);
    (image.digest, image.config.to_string())
}

/// What a step made keeps the time that its layer gave it, so that a later one
/// which leaves it as it is has nothing to say about it.
fn no_change_under_an_epoch(mut bench: Bench) {
    bench.env("SOURCE_DATE_EPOCH", "1000000000");
    bench.dockerfile(
        "FROM BASE\nRUN mkdir /d && echo a > /d/f && ln -s f /d/l\n\
         RUN chmod 600 /d/f && chmod 644 /d/f && chown -R 0:0 /d && test $(stat -c %Y /d/f) = 1000000000\n",
    );
    let image = bench.build(&["-t", "same"]);
    let paths: Vec<_> = image.layers[image.layers.len() - 1].iter().map(|entry| &entry.path).collect();
    assert!(paths.is_empty(), "{paths:?}");
}

fn twice(bench: Bench) {
    let (first, second) = (digest(bench.user()), digest(bench.user()));
    assert_eq!(first.1, second.1, "configs differ");
    assert_eq!(first.0, second.0, "digests differ");
    let mut bench = bench;
    prepare(&mut bench);
    let image = bench.build(&["-t", "epoch"]);
    assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
    let late: Vec<_> = image.layers.iter().flatten().filter(|entry| entry.mtime > 1_700_000_000).collect();
    assert!(late.is_empty(), "{late:?}");
}

fn root_and_ordinary_user(root: User, ordinary: User) {
    let (as_root, as_ordinary) = (digest(root), digest(ordinary));
    assert_eq!(as_root.1, as_ordinary.1, "configs differ");
    assert_eq!(as_root.0, as_ordinary.0, "digests differ");
}
