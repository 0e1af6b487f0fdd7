//! COPY and ADD.

use super::*;

fn copy(line: &str, expected: &str) {
    Case::default().last(&format!("FROM bare\nARG V=v\nWORKDIR /w\n{line}"), expected);
}

fn refused(line: &str, expected: &[&str]) {
    Case::default().refused(&format!("FROM bare\n{line}"), expected);
}

#[test]
fn sources_and_destinations() {
    copy("COPY a b", r#"COPY "a" -> /w/b"#);
    copy("COPY a b /c/", r#"COPY "a" "b" -> /c/"#);
    copy("COPY a .", r#"COPY "a" -> /w/"#);
    copy("COPY . ./", r#"COPY "." -> /w/"#);
    copy("COPY a /", r#"COPY "a" -> /"#);
    copy("COPY a ../x/.", r#"COPY "a" -> /x/"#);
    copy("COPY $V/* ${V}x", r#"COPY "v/*" -> /w/vx"#);
    copy("COPY [\"a b\", \"c d\"]", r#"COPY "a b" -> /w/c d"#);
}

#[test]
fn flags() {
    copy("COPY --chown=$V:g --chmod=0755 a b", r#"COPY chown=v:g chmod=0755 "a" -> /w/b"#);
    copy("COPY --chmod=u=rwX,go=rX a b", r#"COPY chmod=u=rwX,go=rX "a" -> /w/b"#);
    copy("COPY --chown=$NONE a b", r#"COPY "a" -> /w/b"#);
    copy(
        "COPY --link --parents --exclude=*.$V --exclude=!x a b",
        r#"COPY link parents exclude=*.$V exclude=!x "a" -> /w/b"#,
    );
    copy("COPY --from= a b", r#"COPY "a" -> /w/b"#);
    copy("COPY --link=false a b", r#"COPY "a" -> /w/b"#);
    copy("ADD --keep-git-dir --unpack=false --link a b", r#"ADD link keep-git-dir unpack=false "a" -> /w/b"#);
    // --from does not see the stage's WORKDIR.
    copy("COPY --from=debian a b", r#"COPY from=image:debian "a" -> /w/b"#);
}

#[test]
fn inline_files() {
    copy("COPY <<f /x\n$V \"q\" \\$V\nf", "COPY <<f \"v \\\"q\\\" $V\\n\" -> /x");
    copy("COPY <<'f' /x\n$V\nf", "COPY <<f \"$V\\n\" -> /x");
    copy("COPY <<-f /x\n\t\ta\n\tf", "COPY <<f \"a\\n\" -> /x");
    copy("COPY a <<f <<g /x/\n1\nf\n2\ng", "COPY \"a\" <<f \"1\\n\" <<g \"2\\n\" -> /x/");
    copy("ADD <<f /x\nf", "ADD <<f \"\" -> /x");
}

#[test]
fn remote_sources() {
    let hex = "0123456789abcdef".repeat(4);
    copy("ADD https://x.io/$V.tar /x", "ADD http(https://x.io/v.tar) -> /x");
    copy("ADD https://x.io/a.git#main /x", "ADD git(https://x.io/a.git#main) -> /x");
    copy("ADD git@x.io:a/b.git /x", "ADD git(git@x.io:a/b.git) -> /x");
    copy("ADD a https://x.io/b /x/", "ADD \"a\" http(https://x.io/b) -> /x/");
    copy(
        &format!("ADD --checksum=sha256:{hex} https://x.io/a /x"),
        "ADD checksum=sha256:01234 http(https://x.io/a) -> /x",
    );
    copy(
        &format!("ADD --checksum={} git://x.io/a /x", &hex[..40]),
        "ADD checksum=0123456789ab git(git://x.io/a) -> /x",
    );
}

#[test]
fn wrong_copies_are_refused() {
    let hex = "0".repeat(64);
    refused("COPY https://x.io/a /x", &["2:6 COPY cannot read a URL, `https://x.io/a`"]);
    refused("COPY git@x.io:a.git /x", &["2:6 COPY cannot read a git repository, `git@x.io:a.git`"]);
    refused(
        &format!("ADD --checksum=sha256:{hex} a /x"),
        &["2:16 `--checksum` is for URLs and git repositories, not for files of the context"],
    );
    refused(
        &format!("ADD --checksum=sha256:{hex} https://a https://b /x/"),
        &["2:16 `--checksum` is for a single source"],
    );
    refused(
        "ADD --checksum=sha256:12 https://a /x",
        &["2:16 `--checksum=sha256:12`: expected `sha256:` and 64 hex digits"],
    );
    refused(
        "COPY --chmod=999 a b",
        &["2:14 `--chmod=999` is neither octal, 0 to 07777, nor symbolic such as `u=rwX,go=rX`"],
    );
    // Quotes do not join words: that takes the array form.
    refused("COPY \"a b\" c", &["2:6 no closing `\"`", "2:9 no closing `\"`"]);
    refused("COPY <<../x /d/\na\n../x", &["2:1 `../x` cannot be the name of an inline file"]);
    refused("RUN <<a/b\n#!/bin/sh\na/b", &["2:1 `a/b` cannot be the name of an inline file"]);
    refused("COPY --from=scratch a b", &["2:13 nothing can be copied from `scratch`, it is empty"]);
    refused("ARG X=bare\nCOPY --from=$X a b", &["3:13 `from=$X`: variables do not work here"]);
    refused("COPY --from=0 a b", &["2:13 `from=0` is the stage itself; only earlier stages can be read"]);
    refused("COPY --from=7 a b", &["2:13 there is no stage number 7, they count from 0"]);
    Case::default().refused(
        "FROM bare AS me\nCOPY --from=me a b\nCOPY --from=later a b\nRUN --mount=from=later,target=/x r\nFROM bare AS later\nFROM me",
        &[
            "2:13 `from=me` is the stage itself; only earlier stages can be read",
            "3:13 `from=later` is a later stage; only earlier stages can be read",
            "4:13 `from=later` is a later stage; only earlier stages can be read",
        ],
    );
}
