//! What the step cache may and may not answer.

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::support::{Bench, as_caller, as_everyone};

pub fn trials() -> Vec<Trial> {
    vec![
        as_caller("cache::a_renewed_stage_renews_what_reads_it", a_renewed_stage_renews_what_reads_it),
        as_caller("cache::a_lost_layer_renews_what_stands_on_it", a_lost_layer_renews_what_stands_on_it),
        as_caller("cache::other_hosts_execute_again", other_hosts_execute_again),
        as_caller("cache::a_failure_is_no_interruption", a_failure_is_no_interruption),
    ]
    .into_iter()
    .chain(as_everyone("cache::locked_caches_do_not_block_each_other", locked_caches_do_not_block_each_other))
    .collect()
}

/// `--no-cache-filter` executes the stage, and then everything that sees its new
/// files.
fn a_renewed_stage_renews_what_reads_it(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE AS first\nRUN cat /proc/sys/kernel/random/uuid > /id\nFROM first AS second\nRUN cp /id /copy\n\
         FROM BASE\nCOPY --from=second /id /copy /\nRUN --mount=from=first,target=/first cp /first/id /third\n",
    );
    let before = bench.build(&["-t", "renewed"]);
    let after = bench.build(&["-t", "renewed", "--no-cache-filter", "first"]);
    assert_ne!(before.text("id"), after.text("id"));
    assert_eq!(after.text("copy"), after.text("id"));
    assert_eq!(after.text("third"), after.text("id"));
    let again = bench.build(&["-t", "renewed"]);
    assert_eq!(again.text("id"), after.text("id"), "the new result is what is remembered");
}

fn a_lost_layer_renews_what_stands_on_it(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN cp /id /copy\n");
    let before = bench.build(&["-t", "lost"]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(blob(&bench, &bench.try_build(&["-t", "lost"]).digest())).unwrap())
            .unwrap();
    let layer = blob(&bench, manifest["layers"][1]["digest"].as_str().unwrap());
    // A crash of the machine tore it.
    fs::File::options().write(true).open(&layer).unwrap().set_len(10).unwrap();
    let after = bench.build(&["-t", "lost"]);
    assert_ne!(before.text("id"), after.text("id"));
    assert_eq!(after.text("copy"), after.text("id"));
}

fn blob(bench: &Bench, digest: &str) -> std::path::PathBuf {
    bench.state().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

fn other_hosts_execute_again(mut bench: Bench) {
    bench.dockerfile("FROM BASE\nRUN cp /etc/hosts /seen\n");
    assert!(!bench.build(&["-t", "hosts"]).text("seen").contains("10.1.2.3"));
    assert!(bench.build(&["-t", "hosts", "--add-host", "db:10.1.2.3"]).text("seen").contains("10.1.2.3\tdb"));
}

/// Stages work side by side; the one that fails ends the others and is what is
/// told.
fn a_failure_is_no_interruption(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE AS slow\nRUN sleep 100\nFROM BASE AS broken\nRUN sleep 0.2; exit 7\nFROM scratch\n\
         COPY --from=slow / /a/\nCOPY --from=broken / /b/\n",
    );
    let started = Instant::now();
    bench.fails(&["-t", "broken"], 3, "exit code 7");
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
}

/// Two stages want the same two caches in another order, and one of them wants
/// one twice.
fn locked_caches_do_not_block_each_other(mut bench: Bench) {
    bench.dockerfile(
        "FROM BASE AS a\nRUN --mount=type=cache,id=x,target=/x,sharing=locked \
         --mount=type=cache,id=y,target=/y,sharing=locked --mount=type=cache,id=x,target=/z,sharing=locked \
         sleep 0.2; echo a >> /x/log; cp /z/log /a\n\
         FROM BASE AS b\nRUN --mount=type=cache,id=y,target=/y,sharing=locked \
         --mount=type=cache,id=x,target=/x,sharing=locked sleep 0.2; echo b >> /x/log; cp /x/log /b\n\
         FROM scratch\nCOPY --from=a /a /a\nCOPY --from=b /b /b\n",
    );
    let image = bench.build(&["-t", "caches"]);
    let mut lengths = [image.text("a").lines().count(), image.text("b").lines().count()];
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 2], "one after the other");
}
