//! What arrives at the registry, over the real protocol.

use libtest_mimic::Trial;

use crate::support::{Bench, as_caller, as_everyone};

pub fn trials() -> Vec<Trial> {
    let mut trials = as_everyone("push::three_tags_one_upload", three_tags_one_upload);
    trials.push(as_caller("push::output_registry_is_push", output_registry_is_push));
    trials.push(as_caller("push::pushed_image_is_a_base", pushed_image_is_a_base));
    let leaves = a_pushed_name_leaves_the_older_image;
    trials.push(as_caller("push::a_pushed_name_leaves_the_older_image", leaves));
    trials
}

fn three_tags_one_upload(mut bench: Bench) {
    bench.file("note", "n");
    bench.dockerfile("FROM BASE\nCOPY note /note\n");
    let host = bench.server().host();
    let tags: Vec<String> =
        ["1.2.3", "1.2", "latest"].iter().map(|tag| format!("{host}/team/app:{tag}")).collect();
    let image = bench.build(&["-t", &tags[0], "-t", &tags[1], "-t", &tags[2], "--push"]);
    let server = bench.server();
    for tag in ["1.2.3", "1.2", "latest"] {
        assert_eq!(server.manifest_digest("team/app", tag).as_deref(), Some(image.digest.as_str()), "{tag}");
    }
    // The base's layer is mounted from its repository; the COPY's layer and the
    // config are uploaded, once for three tags.
    assert_eq!(server.uploads("team/app"), 2);
}

/// What stays on this machine is not complete then, so the name is not listed:
/// neither with that image nor with the one it stood for before.
fn a_pushed_name_leaves_the_older_image(mut bench: Bench) {
    let name = format!("{}/team/app:1", bench.server().host());
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /d\n");
    bench.build(&["-t", &name]);
    let listed = |bench: &Bench| String::from_utf8(bench.coracle(&["images"]).stdout).unwrap();
    assert!(listed(&bench).contains("team/app"), "{}", listed(&bench));
    bench.dockerfile("FROM BASE\nENV A=1\n");
    bench.build(&["-t", &name, "--push"]);
    assert!(!listed(&bench).contains("team/app"), "{}", listed(&bench));
}

fn output_registry_is_push(mut bench: Bench) {
    bench.dockerfile("FROM scratch\nCOPY Dockerfile /d\n");
    let host = bench.server().host();
    let image = bench.build(&["--output", &format!("type=registry,name={host}/team/app:1")]);
    assert_eq!(bench.server().manifest_digest("team/app", "1"), Some(image.digest));
}

fn pushed_image_is_a_base(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nENV A=1\nRUN echo first > /first\n");
    let host = bench.server().host();
    let name = format!("{host}/team/parent:1");
    bench.build(&["-t", &name, "--push"]);
    bench.dockerfile(&format!("FROM {name}\nRUN echo $A >> /first\n"));
    let image = bench.build(&["-t", "child"]);
    assert_eq!(image.text("first"), "first\n1\n");
}
