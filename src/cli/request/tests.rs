use clap::Parser;

use super::*;
use crate::build::Output;
use crate::cli::arguments::{Command, CommandLine};
use crate::plan::Network;
use crate::ssh::AgentSource;

fn understood(flags: &[&str], environment: &[(&str, &str)]) -> (BuildRequest, Vec<String>) {
    let line = ["coracle", "build"].iter().chain(flags).chain(&["/"]);
    let Ok(CommandLine { command: Command::Build(arguments) }) = CommandLine::try_parse_from(line) else {
        panic!("{flags:?} does not parse");
    };
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut wrong = Vec::new();
    let request = understand(&arguments, &environment, &mut wrong);
    (request, wrong)
}

fn check(flags: &[&str], environment: &[(&str, &str)], judge: impl FnOnce(&BuildRequest)) {
    let (request, wrong) = understood(flags, environment);
    assert_eq!(wrong, Vec::<String>::new(), "{flags:?}");
    judge(&request);
}

/// One line per expected part, in order.
fn refuse(flags: &[&str], parts: &[&str]) {
    let (_, wrong) = understood(flags, &[]);
    assert_eq!(wrong.len(), parts.len(), "{flags:?}: {wrong:?}");
    for (line, part) in wrong.iter().zip(parts) {
        assert!(line.contains(part) && !line.contains('\n'), "`{part}` is not in {line}");
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn names() {
    check(&["-t", "a:1", "-t", "r.io/b", "-t", "docker.io/library/a:1"], &[], |request| {
        let names: Vec<_> = request.destinations.iter().map(|d| d.reference.to_string()).collect();
        assert_eq!(names, ["docker.io/library/a:1", "r.io/b:latest"]);
        assert!(!request.push);
    });
    check(&["-o", "type=registry,name=r.io/c:2"], &[], |request| {
        assert!(request.push);
        assert_eq!(request.destinations[0].reference.to_string(), "r.io/c:2");
    });
    let digest = format!("r.io/a@sha256:{}", "0".repeat(64));
    refuse(&["-t", "Upper", "-t", &digest], &["Upper", "has a digest"]);
    refuse(&["--push"], &["nothing to push to"]);
}

#[test]
fn arguments_come_from_the_environment() {
    let environment = [("A", "1"), ("HTTP_PROXY", "http://p"), ("no_proxy", "x"), ("B", "")];
    let flags = ["--build-arg", "A", "--build-arg", "B", "--build-arg", "C", "--build-arg", "D=2=3"];
    check(&flags, &environment, |request| {
        assert_eq!(request.build_args, owned(&[("A", "1"), ("B", ""), ("D", "2=3")]));
        assert_eq!(request.proxy_args, owned(&[("HTTP_PROXY", "http://p"), ("no_proxy", "x")]));
    });
    check(&["--build-arg", "HTTP_PROXY=http://q"], &environment, |request| {
        assert_eq!(request.proxy_args[0].1, "http://q");
    });
    refuse(&["--build-arg", "=x"], &["has no name"]);
}

#[test]
fn epochs() {
    let environment = [("SOURCE_DATE_EPOCH", "17")];
    check(&[], &environment, |request| {
        assert_eq!(request.source_date_epoch, Some(17));
        assert_eq!(request.build_args, owned(&[("SOURCE_DATE_EPOCH", "17")]));
    });
    check(&["--build-arg", "SOURCE_DATE_EPOCH=18"], &environment, |request| {
        assert_eq!(request.source_date_epoch, Some(18));
    });
    check(&[], &[("SOURCE_DATE_EPOCH", "")], |request| assert_eq!(request.source_date_epoch, None));
    refuse(&["--build-arg", "SOURCE_DATE_EPOCH=soon"], &["soon"]);
    refuse(&["--build-arg", "SOURCE_DATE_EPOCH=-1"], &["-1"]);
}

#[test]
fn secrets() {
    let environment = [("TOKEN", "t"), ("plain", "p")];
    let value = |text: &str| SecretSource::Value(Secret::new(text));
    let file = |path: &str| SecretSource::File(path.into());
    for (spec, id, expected) in [
        ("id=a,src=f", "a", file("f")),
        ("id=a,source=f,type=file", "a", file("f")),
        ("id=a,env=TOKEN", "a", value("t")),
        ("type=env,id=TOKEN", "TOKEN", value("t")),
        ("id=plain", "plain", value("p")),
        ("id=absent", "absent", file("absent")),
        (r#""id=a","src=x,y""#, "a", file("x,y")),
    ] {
        check(&["--secret", spec], &environment, |request| {
            assert_eq!(request.secrets.get(id), Some(&expected), "{spec}");
        });
    }
    refuse(&["--secret", "src=f", "--secret", "id=a,env=NOPE"], &["`id` is missing", "`NOPE` is not set"]);
    refuse(&["--secret", "id=a,src=f,env=x", "--secret", "id=a,what=1"], &["exclude", "`what` is unknown"]);
}

#[test]
fn agents_of_ssh() {
    let environment = [("SSH_AUTH_SOCK", "/s")];
    let paths = |paths: &[&str]| AgentSource::Paths(paths.iter().map(PathBuf::from).collect());
    for (spec, id, expected) in [
        ("default", "default", paths(&["/s"])),
        ("x", "x", paths(&["/s"])),
        ("x=", "x", paths(&["/s"])),
        ("x=k", "x", paths(&["k"])),
        ("default=a,b", "default", paths(&["a", "b"])),
    ] {
        check(&["--ssh", spec], &environment, |request| {
            assert_eq!(request.ssh.get(id), Some(&expected), "{spec}");
        });
    }
    refuse(&["--ssh", "default"], &["SSH_AUTH_SOCK is not set"]);
    refuse(&["--ssh", "a=x", "--ssh", "a=y"], &["`a` is given twice"]);
}

#[test]
fn hosts_networks_platforms() {
    check(&["--add-host", "a:1.2.3.4", "--add-host", "b=[::1]", "--network", "none"], &[], |request| {
        assert_eq!(request.extra_hosts, owned(&[("a", "1.2.3.4"), ("b", "::1")]));
        assert_eq!(request.network, Network::None);
    });
    check(&["--platform", "linux/x86_64"], &[], |request| {
        assert_eq!(request.platform.as_ref().map(ToString::to_string).as_deref(), Some("linux/amd64"));
    });
    refuse(&["--platform", "linux/amd64,linux/arm64"], &["several platforms"]);
    refuse(
        &["--add-host", "a:host-gateway", "--add-host", "a:b", "--add-host", "a"],
        &["127.0.0.1", "`b`", "form"],
    );
    refuse(&["--network", "bridge"], &["bridge"]);
    for (flags, allowed) in [
        (&["--network", "none"][..], false),
        (&["--network", "host"], true),
        (&["--allow", "network.host"], true),
    ] {
        check(flags, &[], |request| assert_eq!(request.host_network, allowed, "{flags:?}"));
    }
    check(&["--ulimit", "nofile=1024:2048", "--ulimit", "core=0"], &[], |request| {
        let limits: Vec<String> = request.ulimits.iter().map(ToString::to_string).collect();
        assert_eq!(limits, ["nofile=1024:2048", "core=0:0"]);
    });
    refuse(&["--ulimit", "files=1", "--ulimit", "nofile"], &["`files` is no limit", "NAME=SOFT"]);
}

#[test]
fn metadata_and_contexts() {
    let flags = ["--label", "a=1=2", "--label", "b", "--annotation", "manifest:x=y", "--annotation", "z=w"];
    check(&flags, &[], |request| {
        assert_eq!(request.labels, owned(&[("a", "1=2"), ("b", "")]));
        assert_eq!(request.annotations, owned(&[("x", "y"), ("z", "w")]));
    });
    check(&["--build-context", "other:latest=docker-image://debian"], &[], |request| {
        assert_eq!(request.named_contexts["other"], NamedContext::Image("debian".parse().unwrap()));
    });
    refuse(&["--annotation", "index:x=y", "--annotation", "x"], &["form", "index"]);
    check(&["--build-context", "a=https://x/y.git#v1"], &[], |request| {
        assert_eq!(request.named_contexts["a"], NamedContext::Other("https://x/y.git#v1".to_owned()));
    });
    check(&["--build-context", "a=oci-layout://x:1", "--build-context", "b=/"], &[], |request| {
        assert_eq!(request.named_contexts["a"], NamedContext::OciLayout("x:1".to_owned()));
        assert_eq!(request.named_contexts["b"], NamedContext::Directory("/".into()));
    });
    check(&["-f", "https://x.io/Dockerfile"], &[], |request| {
        assert_eq!(request.dockerfile, DockerfileSource::Remote("https://x.io/Dockerfile".to_owned()));
    });
    refuse(
        &[
            "--build-context",
            "a=/no/such",
            "--build-context",
            "Upper=/",
            "--build-context",
            "b::linux/arm64=/",
        ],
        &["`/no/such` cannot be read", "Upper", "b::linux"],
    );
    refuse(&["--build-context", "a=target:x"], &["bake"]);
    refuse(&["--build-context", "a=https://x/y.git#a b"], &["cannot be a ref"]);
}

#[test]
fn outputs_and_cache() {
    let flags = ["-o", "type=oci,dest=-", "--no-cache", "--no-cache-filter", "a,b", "--pull", "-f", "x/y"];
    check(&flags, &[], |request| {
        assert_eq!(request.outputs, [Output::OciArchive(None)]);
        assert!(request.cache.disabled && request.pull);
        assert_eq!(request.cache.disabled_stages, ["a", "b"]);
        assert_eq!(request.dockerfile, DockerfileSource::Path("x/y".into()));
    });
    refuse(&["-o", "type=oci,dest=-", "-o", "type=docker,dest=-"], &["dest=-"]);
}
