//! Spellings of locations, and repositories on this machine.

use super::*;

fn git(text: &str) -> GitLocation {
    GitLocation::parse(text).unwrap()
}

#[test]
fn git_addresses() {
    let check = |text: &str, remote: &str, reference: Option<&str>, directory: &str| {
        let found = git(text);
        assert_eq!(found.remote, remote, "{text}");
        assert_eq!(found.reference.as_deref(), reference, "{text}");
        assert_eq!(found.subdirectory, PathBuf::from(directory), "{text}");
    };
    let remote = "https://x.io/a.git";
    check("https://x.io/a.git", remote, None, "");
    check("https://x.io/a.git#", remote, None, "");
    check("https://x.io/a.git#main", remote, Some("main"), "");
    check("https://x.io/a.git#v1:dir/sub", remote, Some("v1"), "dir/sub");
    check("https://x.io/a.git#:/dir/", remote, None, "dir");
    check("https://x.io/a.git#refs/heads/x", remote, Some("refs/heads/x"), "");
    check("https://x.io/a.git?ref=v1&subdir=dir", remote, Some("v1"), "dir");
    check("https://x.io/a.git?tag=v1", remote, Some("refs/tags/v1"), "");
    check("https://x.io/a.git?branch=v1", remote, Some("refs/heads/v1"), "");
    check("git@x.io:team/a.git#v1", "git@x.io:team/a.git", Some("v1"), "");
    check("ssh://git@x.io:22/a", "ssh://git@x.io:22/a", None, "");
    let commit = "0123456789012345678901234567890123456789";
    check(&format!("https://x.io/a.git?checksum={commit}"), remote, Some(commit), "");
    check("https://x.io/a.git?subdir=dir#v1", remote, Some("v1"), "dir");
    check("https://x.io/a.git?tag=refs/tags/v1#refs/tags/v1", remote, Some("refs/tags/v1"), "");
    let times = git("https://x.io/a.git?mtime=commit&fetch-by-commit");
    assert!(times.commit_time && times.by_commit && times.check_by_commit().is_err());
    let flags = git("https://x.io/a.git?keep-git-dir=true&submodules=false&commit=0123456");
    assert!(flags.keep_git_dir && !flags.submodules);
    assert_eq!((flags.checksum.as_deref(), flags.reference), (Some("0123456"), None));
}

#[test]
fn git_addresses_that_are_refused() {
    let check = |text: &str, part: &str| {
        let error = GitLocation::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    };
    for reference in
        ["--upload-pack=x", "a b", "a..b", "a^", "a~1", "*", "a@{1}", "/a", "a/", ".a", "a.lock", "[a]"]
    {
        check(&format!("https://x.io/a.git#{reference}"), "cannot be a ref");
    }
    check("https://x.io/a.git#a:../b", "leads out");
    check("https://x.io/a.git?subdir=a/../../b", "leads out");
    check("https://x.io/a.git?what=1", "`what` is no part");
    check("https://x.io/a.git?ref=a&branch=b", "more than one");
    check("https://x.io/a.git?ref=a#b", "more than one");
    check("https://x.io/a.git?subdir=a#b:c", "more than one directory");
    check("https://x.io/a.git?ref=a&ref=a", "twice");
    check("https://x.io/a.git?mtime=now", "neither `commit` nor");
    check("https://x.io/a.git?submodules=perhaps", "neither true nor false");
    check("https://x.io/a.git?checksum=xyz", "no commit");
    check("ssh://-oProxyCommand=x/a.git", "");
    check("--upload-pack=x", "");
    check("https://x.io/a b.git", "blanks");
    check("https://me:pass@x.io/a.git#a b", "`https://x.io/a.git#a b`");
}

#[test]
fn contexts_are_told_apart() {
    let check = |text: &str, expected: &str| {
        let found = match Location::of_context(text) {
            None => "local",
            Some(Err(_)) => "wrong",
            Some(Ok(Location::Http(_))) => "http",
            Some(Ok(Location::Git(_))) => "git",
        };
        assert_eq!(found, expected, "{text}");
    };
    check(".", "local");
    check("dir.git", "local");
    check("a@b", "local");
    check("https://x.io/a.tar.gz", "http");
    check("HTTPS://x.io/Dockerfile", "http");
    check("https://", "wrong");
    check("https://x.io/a.git", "git");
    check("https://x.io/a.git#v1:sub", "git");
    check("git@x.io:a", "git");
    check("git://x.io/a", "git");
    check("github.com/x/y", "git");
    check("https://x.io/a.git#a b", "wrong");
}
