//! What ADD unpacks over what is there (rows 112 to 118).

use super::*;

/// `held` as in the table of COPY; directories of it that have no entry of
/// their own are named in `implied`.
#[track_caller]
fn unpacked(below: &str, held: &str, implied: &str, instruction: &str, expected: &str) {
    let (op, base) = (operation(instruction), base(below));
    let implied: BTreeSet<PathBuf> = implied.split_whitespace().map(PathBuf::from).collect();
    let picked = [Picked::Archive { tree: Box::new(tree(held)), implied }];
    let found = layer_of(&op, &picked, &base).map(|index| shown(&index)).map_err(|error| error.to_string());
    match expected.strip_prefix('!') {
        Some(part) => assert!(found.clone().unwrap_err().contains(part), "{found:?}"),
        None => assert_eq!(found.as_deref(), Ok(expected), "{held} onto {below}"),
    }
}

#[test]
fn contents_keep_what_the_archive_says() {
    unpacked("", "d/:700:5:6 d/f:4755:7:8", "", "ADD x /t", "*t/ t/d/:700:5:6 t/d/f:4755:7:8");
    unpacked("", "f+security.capability l@f::5", "", "ADD x /", "f+security.capability l@f::5");
    unpacked("", "a=1 b=1", "", "ADD x /t/", "*t/ t/a t/b=t/a");
    unpacked("", "d/ d/f", "d", "ADD x /t", "*t/ *t/d/ t/d/f");
    unpacked("t/:700:5", "f", "", "ADD x /t", "*t/:700:5 t/f");
}

#[test]
fn chown_counts_and_chmod_does_not() {
    unpacked("", "d/:711:5 d/f:600:6", "", "ADD --chown=9 --chmod=777 x /t", "*t/::9 t/d/:711:9 t/d/f:600:9");
}

#[test]
fn other_kinds_are_replaced() {
    unpacked("t/ t/d", "d/ d/f", "", "ADD x /t", "*t/ t/d/ t/d/f");
    unpacked("t/ t/d/ t/d/old", "d", "", "ADD x /t", "*t/ t/d");
    unpacked("t/ t/d/:700:5", "d/ d/f", "", "ADD x /t", "*t/ t/d/ t/d/f");
    unpacked("lib@usr/lib usr/ usr/lib/", "lib/ lib/f", "", "ADD x /", "lib/ lib/f");
    unpacked("t", "f", "", "ADD x /t", "!cannot copy a directory to `/t`");
}

#[test]
fn directories_that_are_only_implied_lead_through_links() {
    unpacked(
        "lib@usr/lib usr/ usr/lib/:711",
        "lib/ lib/f",
        "lib",
        "ADD x /",
        ".usr/ *usr/lib/:711 usr/lib/f",
    );
    unpacked("etc/:711:5", "etc/ etc/f", "etc", "ADD x /", "*etc/:711:5 etc/f");
    unpacked("lib", "lib/ lib/f", "lib", "ADD x /", "!cannot copy a directory to `/lib`");
}
