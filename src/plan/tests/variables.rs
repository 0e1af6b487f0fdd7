//! ARG, ENV, and which instructions expand what.

use super::*;

fn run(text: &str, expected: &str) {
    Case::default().last(text, &format!("RUN [\"/bin/sh\", \"-c\", \"r\"]{expected}"));
}

#[test]
fn scopes_of_arg() {
    // Global ones are for FROM until a stage declares them.
    run("ARG A=1\nFROM bare\nRUN r", "");
    run("ARG A=1\nFROM bare\nARG A\nRUN r", " env[A=1]");
    run("ARG A=1\nFROM bare\nARG A=2\nRUN r", " env[A=2]");
    run("FROM bare\nARG A\nRUN r", "");
    run("FROM bare\nARG A=\nRUN r", " env[A=]");
    run("FROM bare\nARG A=1 B=${A}2 C=$B$A\nRUN r", " env[A=1 B=12 C=121]");
    run("FROM bare\nRUN r\nARG A=1", "");
    run("FROM bare\nARG A='x y' B=\"z\"\\ w\nRUN r", " env[A=x y B=z w]");
    // Not into other stages, but into those based on this one.
    run("FROM bare AS a\nARG A=1\nFROM bare\nRUN r", "");
    run("FROM bare AS a\nARG A=1\nFROM a\nRUN r", " env[A=1]");
    run("FROM bare AS a\nENV A=1\nFROM a\nRUN r", " env[A=1]");
}

#[test]
fn build_args() {
    let case = || Case::default().arg("A", "given").arg("E", "").arg("U", "unused");
    case().last("FROM bare\nARG A=1 E=2\nRUN r", r#"RUN ["/bin/sh", "-c", "r"] env[A=given E=]"#);
    case().last("FROM bare\nRUN r", r#"RUN ["/bin/sh", "-c", "r"]"#);
    case().last(
        "ARG A=1\nFROM bare\nARG A=2\nARG B=$A\nRUN r",
        r#"RUN ["/bin/sh", "-c", "r"] env[A=given B=given]"#,
    );
    // Without a declaration in the stage it is not there, whatever FROM knows.
    case().last("ARG A\nFROM bare\nRUN r", r#"RUN ["/bin/sh", "-c", "r"]"#);
}

#[test]
fn env_and_arg_of_one_name() {
    // The later one is seen; the image keeps ENV's.
    run("FROM bare\nARG A=arg\nENV A=env\nRUN r", " env[A=env]");
    run("FROM bare\nENV A=env\nARG A=arg\nRUN r", " env[A=arg]");
    run("FROM bare\nENV A=env\nARG A\nRUN r", " env[A=env]");
    let case = Case::default();
    case.config("FROM bare\nENV A=env\nARG A=arg\nUSER $A", "User", "\"arg\"");
    case.config("FROM scratch\nENV PATH=/p A=env\nARG A=arg", "Env", r#"["PATH=/p","A=env"]"#);
    case.config("FROM bare\nARG A=1\nENV B=${A}", "Env", &format!(r#"["PATH={PATH}","B=1"]"#));
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn predefined_platform_args() {
    let mut case = Case::default().target("t");
    case.options.platform = platform("linux/arm/v7");
    let text = "FROM scratch AS t\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT TARGETSTAGE BUILDPLATFORM BUILDARCH BUILDVARIANT\nRUN [\"r\"]";
    case.last(
        text,
        "RUN [\"r\"] env[TARGETPLATFORM=linux/arm/v7 TARGETOS=linux TARGETARCH=arm TARGETVARIANT=v7 TARGETSTAGE=t BUILDPLATFORM=linux/amd64 BUILDARCH=amd64 BUILDVARIANT=]",
    );
    let text = "FROM scratch\nARG TARGETSTAGE TARGETARCH\nRUN [\"r\"]";
    Case::default().last(text, "RUN [\"r\"] env[TARGETSTAGE=default TARGETARCH=amd64]");
    Case::default().last(
        &text.replace("FROM scratch", "FROM scratch AS End"),
        "RUN [\"r\"] env[TARGETSTAGE=end TARGETARCH=amd64]",
    );
    Case::default()
        .arg("TARGETARCH", "mine")
        .last(text, "RUN [\"r\"] env[TARGETSTAGE=default TARGETARCH=mine]");
    Case::default().last("FROM scratch\nRUN [\"r\", \"$TARGETARCH\"]", "RUN [\"r\", \"$TARGETARCH\"]");
}

#[test]
fn one_instruction_sees_what_was_before_it() {
    let text = "FROM scratch\nENV PATH=/p abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc";
    Case::default().config(text, "Env", r#"["PATH=/p","abc=bye","def=hello","ghi=bye"]"#);
    // The base image's variables are visible.
    Case::default().config("FROM debian\nENV PATH=$PATH:/x", "Env", r#"["PATH=/bin:/x","LANG=C"]"#);
}

#[test]
fn instructions_that_expand() {
    let base = "FROM scratch\nARG V=v P=80 S=SIGTERM\n";
    let case = Case::default();
    let config =
        |line: &str, field: &str, expected: &str| case.config(&format!("{base}{line}"), field, expected);
    config("LABEL a=$V $V=b", "Labels", r#"{"a":"v","v":"b"}"#);
    config("EXPOSE $P ${P}1/udp", "ExposedPorts", r#"{"80/tcp":{},"801/udp":{}}"#);
    config("VOLUME /$V [x]", "Volumes", r#"{"/v":{},"[x]":{}}"#);
    config("VOLUME [\"/$V\"]", "Volumes", r#"{"/v":{}}"#);
    config("USER $V:$V", "User", "\"v:v\"");
    config("USER $NONE", "User", "-");
    config("WORKDIR /a/$V", "WorkingDir", "\"/a/v\"");
    config("STOPSIGNAL $S", "StopSignal", "\"SIGTERM\"");
    config("CMD [\"$V\"]", "Cmd", r#"["$V"]"#);
    config("CMD $V", "Cmd", r#"["/bin/sh","-c","$V"]"#);
    config("ENTRYPOINT $V", "Entrypoint", r#"["/bin/sh","-c","$V"]"#);
    config("ONBUILD RUN $V", "OnBuild", r#"["RUN $V"]"#);
    config("SHELL [\"$V\"]", "Shell", r#"["$V"]"#);
    config("MAINTAINER $V", "author", "\"$V\"");
    config("HEALTHCHECK CMD $V", "Healthcheck", r#"{"Test":["CMD-SHELL","$V"]}"#);
    config("LABEL a=\\$V b='$V' c=\"$V\"", "Labels", r#"{"a":"$V","b":"$V","c":"v"}"#);
    config("ENV A $V and more", "Env", &format!(r#"["PATH={PATH}","A=v and more"]"#));
}

#[test]
fn proxies_stay_out_of_config_history_and_key() {
    let case = || {
        let mut case = Case::default().arg("HTTP_PROXY", "http://u:p@x");
        case.options.proxy_args = vec![
            ("no_proxy".into(), "local".into()),
            ("http_proxy".into(), "http://other".into()),
            ("Else".into(), "1".into()),
        ];
        case
    };
    case().last(
        "FROM bare\nRUN r",
        r#"RUN ["/bin/sh", "-c", "r"] hidden[Else=1 HTTP_PROXY=http://u:p@x NO_PROXY=local http_proxy=http://u:p@x no_proxy=local]"#,
    );
    case().history("FROM bare\nRUN r", "+ RUN /bin/sh -c r # buildkit");
    // Declared, it is an argument like any other.
    case().last(
        "FROM bare\nARG HTTP_PROXY\nENV no_proxy=mine\nRUN r",
        r#"RUN ["/bin/sh", "-c", "r"] env[HTTP_PROXY=http://u:p@x no_proxy=mine] hidden[Else=1 NO_PROXY=local http_proxy=http://u:p@x]"#,
    );
    case().history(
        "FROM bare\nARG HTTP_PROXY\nRUN r",
        "+ RUN |1 HTTP_PROXY=http://u:p@x /bin/sh -c r # buildkit",
    );
}
