//! The config and the history that each instruction leaves.

use super::*;

fn config(text: &str, field: &str, expected: &str) {
    Case::default().config(text, field, expected);
}

fn history(line: &str, expected: &str) {
    Case::default().history(&format!("FROM bare\n{line}"), expected);
}

#[test]
fn inherited_from_the_base() {
    for (field, expected) in [
        ("User", r#""app""#),
        ("WorkingDir", r#""/srv/""#),
        ("Entrypoint", r#"["/e"]"#),
        ("Cmd", r#"["c"]"#),
        ("Labels", r#"{"ci":"base","from":"base"}"#),
        ("ExposedPorts", r#"{"80/tcp":{}}"#),
        ("Volumes", r#"{"/v":{}}"#),
        ("StopSignal", r#""SIGINT""#),
        ("Shell", r#"["/bin/bash","-ec"]"#),
        ("Healthcheck", r#"{"Test":["NONE"]}"#),
        ("created", "-"),
    ] {
        config("FROM app", field, expected);
        config("FROM app AS a\nFROM a", field, expected);
    }
    Case::default().last("FROM app\nRUN r", r#"RUN ["/bin/bash", "-ec", "r"] env[V=base] cwd=/srv user=app"#);
}

#[test]
fn scratch_and_bare_images() {
    let path = r#"["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]"#;
    config("FROM scratch", "Env", path);
    config("FROM scratch", "WorkingDir", r#""/""#);
    config("FROM bare", "Env", path);
    config("FROM bare", "WorkingDir", "-");
    config("FROM scratch", "ArgsEscaped", "-");
}

#[test]
fn cmd_and_entrypoint() {
    config("FROM app\nENTRYPOINT [\"x\"]", "Cmd", "-");
    config("FROM app\nCMD [\"y\"]\nENTRYPOINT [\"x\"]", "Cmd", r#"["y"]"#);
    config("FROM app\nENTRYPOINT [\"x\"]\nCMD [\"y\"]", "Cmd", r#"["y"]"#);
    config("FROM app\nCMD [\"y\"]", "Entrypoint", r#"["/e"]"#);
    config("FROM debian AS a\nCMD [\"y\"]\nFROM a\nENTRYPOINT [\"x\"]", "Cmd", "-");
    config("FROM app\nCMD []", "Cmd", "-");
    config("FROM app\nENTRYPOINT []", "Entrypoint", "-");
    config("FROM app\nCMD a b", "Cmd", r#"["/bin/bash","-ec","a b"]"#);
    config("FROM bare\nCMD a\nSHELL [\"/s\"]", "Cmd", r#"["/bin/sh","-c","a"]"#);
    config("FROM bare\nSHELL [\"/s\",\"-x\"]\nENTRYPOINT a", "Entrypoint", r#"["/s","-x","a"]"#);
    config("FROM bare\nCMD [\"a\"]", "ArgsEscaped", "true");
    config("FROM bare\nENTRYPOINT [\"a\"]", "ArgsEscaped", "-");
    history("CMD [\"a\", \"b \\\"c\\\"\"]", r#"CMD ["a" "b \"c\""]"#);
    history("CMD a $B", r#"CMD ["/bin/sh" "-c" "a $B"]"#);
    history("CMD []", "CMD []");
    history("ENTRYPOINT [\"/e\"]", r#"ENTRYPOINT ["/e"]"#);
}

#[test]
fn env_label_and_maintainer() {
    config("FROM app\nENV V=new W=\"a b\"", "Env", r#"["PATH=/p","V=new","W=a b"]"#);
    config("FROM app\nLABEL from=x \"a b\"=c", "Labels", r#"{"a b":"c","ci":"base","from":"x"}"#);
    config("FROM bare\nMAINTAINER A B <c@d>", "author", r#""A B <c@d>""#);
    history("ENV A=1 B=\"x y\"", "ENV A=1 B=x y");
    history("ENV A x y", "ENV A=x y");
    history("LABEL a=b c=\"d e\"", "LABEL a=b c=d e");
    history("MAINTAINER A B", "MAINTAINER A B");
    history("ARG A=1 B", "ARG A=1 B");
}

#[test]
fn labels_from_outside() {
    let mut case = Case::default();
    case.options.labels = vec![("cli".into(), "1".into()), ("both".into(), "cli".into())];
    case.options.default_labels = vec![
        ("ci".into(), "default".into()),
        ("both".into(), "default".into()),
        ("own".into(), "default".into()),
    ];
    case.config(
        "FROM app\nLABEL own=1 both=file",
        "Labels",
        r#"{"both":"cli","ci":"default","cli":"1","from":"base","own":"1"}"#,
    );
    // A LABEL of a base stage is the Dockerfile's too; other stages get nothing.
    let text = "FROM bare AS a\nLABEL own=1\nFROM a";
    case.config(text, "Labels", r#"{"both":"cli","ci":"default","cli":"1","own":"1"}"#);
    assert!(case.resolve(text).stages[0].config.config.labels.len() == 1);
}

#[test]
fn expose() {
    let ports =
        |words: &str, expected: &str| config(&format!("FROM bare\nEXPOSE {words}"), "ExposedPorts", expected);
    ports("80", r#"{"80/tcp":{}}"#);
    ports("80/TCP 53/udp 9/sctp", r#"{"53/udp":{},"80/tcp":{},"9/sctp":{}}"#);
    ports("7-9/udp", r#"{"7/udp":{},"8/udp":{},"9/udp":{}}"#);
    ports("127.0.0.1:80:8080", r#"{"8080/tcp":{}}"#);
    ports("[::1]:80:8080", r#"{"8080/tcp":{}}"#);
    ports("80:8080 90-99:1", r#"{"1/tcp":{},"8080/tcp":{}}"#);
    ports("0", r#"{"0/tcp":{}}"#);
    history("EXPOSE 443 80-81/udp", "EXPOSE [443/tcp 80/udp 81/udp]");
    let refused = |words: &str, reason: &str| {
        let message = format!("2:8 EXPOSE `{words}`: {reason}");
        Case::default().refused(&format!("FROM bare\nEXPOSE {words}"), &[&message]);
    };
    refused("65536", "`65536` is not a port (0 to 65535)");
    refused("+80", "`+80` is not a port (0 to 65535)");
    refused("80/http", "unknown protocol `http` (there are `tcp`, `udp`, `sctp`)");
    refused("9-8", "the range `9-8` goes backwards");
    refused("/tcp", "there is no port");
    refused("x:80", "`x` is not a port (0 to 65535)");
    refused("1.2.3:80:80", "`1.2.3` is not an address");
    refused("1-2:3-9", "the two ranges differ in length");
}

#[test]
fn directories_users_and_signals() {
    let directory =
        |lines: &str, expected: &str| config(&format!("FROM bare\n{lines}"), "WorkingDir", expected);
    directory("WORKDIR /a\nWORKDIR b\nWORKDIR ../c/./d/", r#""/a/c/d""#);
    directory("WORKDIR a", r#""/a""#);
    directory("WORKDIR /a/", r#""/a/""#);
    directory("WORKDIR /a/\nWORKDIR b/", r#""/a/b""#);
    directory("WORKDIR ../../..", r#""/""#);
    directory("WORKDIR /a b", r#""/a b""#);
    config("FROM app\nWORKDIR x", "WorkingDir", r#""/srv/x""#);
    Case::default().last("FROM bare\nUSER 1:2\nWORKDIR /w", "WORKDIR /w user=1:2");
    // An absolute one is kept as it is written.
    directory("WORKDIR /a//b/../", r#""/a//b/../""#);
    history("WORKDIR /a/../b", "+ WORKDIR /a/../b");
    Case::default().last("FROM bare\nWORKDIR /a/../b", "WORKDIR /b user=");
    history("WORKDIR /", "WORKDIR /");
    history("USER a:b", "USER a:b");
    history("VOLUME /a /b", "VOLUME [/a /b]");
    history("VOLUME [\"/a b\"]", "VOLUME [/a b]");
    history("STOPSIGNAL 9", "STOPSIGNAL 9");
    history("SHELL [\"/bin/bash\", \"-c\"]", "SHELL [/bin/bash -c]");
    history("ADD a /b", "+ ADD a /b # buildkit");
    history(
        "COPY --chown=1:2 --chmod=755 --link a b /c/",
        "+ COPY --chown=1:2 --chmod=755 a b /c/ # buildkit",
    );
    history("COPY --parents a b", "+ COPY --parents a b # buildkit");
    history("COPY <<x a /b\ntext\nx", "+ COPY a <<x /b # buildkit");
}

#[test]
fn healthcheck() {
    let check = |line: &str, expected: &str| {
        config(&format!("FROM bare\nHEALTHCHECK {line}"), "Healthcheck", expected)
    };
    check("NONE", r#"{"Test":["NONE"]}"#);
    check("CMD [\"a\",\"b\"]", r#"{"Test":["CMD","a","b"]}"#);
    check(
        "--interval=1m30s --timeout=1.5s --start-period=1h --start-interval=1ms --retries=3 CMD curl x",
        r#"{"Interval":90000000000,"Retries":3,"StartInterval":1000000,"StartPeriod":3600000000000,"Test":["CMD-SHELL","curl x"],"Timeout":1500000000}"#,
    );
    check("--interval=0s CMD x", r#"{"Test":["CMD-SHELL","x"]}"#);
    history(
        "HEALTHCHECK --interval=90s CMD curl x",
        "HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
    );
    Case::default().refused(
        "FROM bare\nHEALTHCHECK --interval=1 --timeout=1us --retries=-1 CMD x",
        &[
            "2:24 `--interval`: `1` is not a duration such as `30s` or `1m30s`",
            "2:36 `--timeout`: `1us` is less than 1ms",
            "2:50 `--retries=-1` is not a number of tries",
        ],
    );
}
