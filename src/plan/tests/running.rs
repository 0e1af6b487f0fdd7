//! RUN: command lines, heredocs, mounts, network.

use super::*;

fn run(line: &str, expected: &str) {
    Case::default().last(&format!("FROM bare\n{line}"), &format!("RUN {expected}"));
}

/// What one `--mount` in `/w` becomes.
fn mount(options: &str, expected: &str) {
    let text = format!("FROM bare\nARG V=v\nWORKDIR /w\nRUN --mount={options} r");
    Case::default().last(&text, &format!(r#"RUN ["/bin/sh", "-c", "r"] env[V=v] cwd=/w {expected}"#));
}

fn refused(options: &str, message: &str) {
    let message = format!("2:13 {message}");
    Case::default().refused(&format!("FROM bare\nRUN --mount={options} r"), &[&message]);
}

#[test]
fn command_lines() {
    run("RUN make all", r#"["/bin/sh", "-c", "make all"]"#);
    run("RUN [\"make\", \"$A\"]", r#"["make", "$A"]"#);
    run(
        "SHELL [\"/bin/bash\", \"-o\", \"x\", \"-c\"]\nRUN a && b",
        r#"["/bin/bash", "-o", "x", "-c", "a && b"]"#,
    );
    run("RUN a \\\n  b", r#"["/bin/sh", "-c", "a   b"]"#);
    run("USER u:g\nWORKDIR /w\nRUN r", r#"["/bin/sh", "-c", "r"] cwd=/w user=u:g"#);
}

#[test]
fn heredocs() {
    run("RUN <<EOF\na\nb $X\nEOF", r#"["/bin/sh", "-c", "a\nb $X\n"]"#);
    run("RUN <<-EOF\n\ta\nEOF", r#"["/bin/sh", "-c", "a\n"]"#);
    run("SHELL [\"/s\"]\nRUN <<EOF\na\nEOF", r#"["/s", "a\n"]"#);
    run(
        "RUN <<X\n#!/usr/bin/env python\nprint()\nX",
        r##"["/bin/sh", "-c", "/dev/pipes/X"] script(X "#!/usr/bin/env python\nprint()\n")"##,
    );
    run("RUN cat <<A - <<'B'\na\nA\nb\nB", r#"["/bin/sh", "-c", "cat <<A - <<'B'\na\nA\nb\nB"]"#);
    run("RUN <<A cat\na\nA", r#"["/bin/sh", "-c", "<<A cat\na\nA"]"#);
    let plan = Case::default().resolve("FROM bare\nRUN <<EOF\n\nfirst\nsecond\nEOF");
    assert_eq!(plan.stages[0].steps[0].text, "RUN <<EOF (first...)");
    Case::default().history("FROM bare\nRUN <<E\na\nE", "+ RUN /bin/sh -c a\n # buildkit");
}

#[test]
fn history_names_the_arguments() {
    let history =
        |text: &str, expected: &str| Case::default().history(&format!("FROM bare\n{text}"), expected);
    history("RUN make", "+ RUN /bin/sh -c make # buildkit");
    history("RUN [\"a\", \"b c\"]", "+ RUN a b c # buildkit");
    history("ARG V=1\nRUN make", "+ RUN |1 V=1 /bin/sh -c make # buildkit");
    history("ARG V=1\nARG W\nARG V=2\nRUN x", "+ RUN |2 V=2 W= /bin/sh -c x # buildkit");
    history("ARG V=1\nENV V=env\nRUN x", "+ RUN |1 V=env /bin/sh -c x # buildkit");
    Case::default().history("FROM bare AS a\nARG V=1\nFROM a\nRUN x", "+ RUN |1 V=1 /bin/sh -c x # buildkit");
}

#[test]
fn bind_mounts() {
    mount("target=/x", "bind(context:/ /x ro)");
    mount("type=bind,source=a/../b,target=x,rw", "bind(context:/b /w/x rw)");
    mount("type=BIND,src=/$V,dst=/$V/y,readwrite=true", "bind(context:/v /v/y rw)");
    mount("destination=../x,ro=false", "bind(context:/ /x rw)");
    mount("from=scratch,target=/x", "bind(empty:/ /x ro)");
    mount("'\"target=/a,b\"'", "bind(context:/ /a,b ro)");
    // Without a target: the working directory.
    mount("source=a", "bind(context:/a /w ro)");
}

#[test]
fn cache_mounts() {
    mount("type=cache,target=/c", "cache(/c /c empty:/ Shared 755 0:0)");
    mount("type=cache,target=c/./", "cache(c /w/c empty:/ Shared 755 0:0)");
    mount(
        "type=cache,id=$V,target=/c,sharing=locked,mode=0700,uid=1,gid=2,ro",
        "cache(v /c empty:/ Locked 700 1:2 ro)",
    );
    mount(
        "type=cache,target=/c,sharing=Private,from=scratch,source=a",
        "cache(/c /c empty:/a Private 755 0:0)",
    );
    Case::default().arg("BUILDKIT_CACHE_MOUNT_NS", "ns").last(
        "FROM bare\nRUN --mount=type=cache,target=/c r",
        r#"RUN ["/bin/sh", "-c", "r"] cache(ns//c /c empty:/ Shared 755 0:0)"#,
    );
}

#[test]
fn other_mounts() {
    mount("type=tmpfs,target=/t", "tmpfs(/t None)");
    mount("type=tmpfs,target=t,size=64m", "tmpfs(/w/t Some(67108864))");
    mount("type=secret,id=k", "secret(k /run/secrets/k false 400 0:0)");
    mount("type=secret,target=/a/k", "secret(k /a/k false 400 0:0)");
    mount("type=secret,source=d/k", "secret(d/k /run/secrets/k false 400 0:0)");
    mount("type=secret,id=k,target=x,required,mode=0440,uid=1,gid=2", "secret(k /w/x true 440 1:2)");
    mount("type=secret,id=k,env=TOKEN", "secret(TOKEN k false)");
    mount("type=secret,id=k,env=T,target=/x,required=true", "secret(k /x true 400 0:0) secret(T k true)");
    mount("type=ssh", "ssh(default None false 600 0:0)");
    mount("type=ssh,id=x,target=s,required,mode=0666", "ssh(x Some(\"/w/s\") true 666 0:0)");
    mount("required=true,type=ssh", "ssh(default None true 600 0:0)");
}

#[test]
fn wrong_mounts_are_refused() {
    refused(
        "type=volume,target=/x",
        "`volume` is not a mount type (there are `bind`, `cache`, `tmpfs`, `secret`, `ssh`)",
    );
    refused("type=cache,taget=/x", "`taget` is not a mount option, did you mean `target`?");
    refused("type=bind", "the mount needs a `target`");
    refused("type=tmpfs,target=/", "nothing can be mounted on the root, `target=/`");
    refused("target", "mount option `target` needs a value: `target=…`");
    refused("target=/x,mode=0700", "mount option `mode` is not for `type=bind`");
    refused("target=/x,required", "mount option `required` is not for `type=bind`");
    refused("type=cache,target=/x,size=1", "mount option `size` is not for `type=cache`");
    refused("target=/x,sharing=locked", "mount option `sharing` is not for `type=bind`");
    refused(
        "type=cache,target=/x,sharing=all",
        "`all` is not a sharing (there are `shared`, `private`, `locked`)",
    );
    refused("type=secret", "a secret mount needs an `id`");
    refused("type=secret,id=a,source=b", "a secret mount has either `id` or `source`");
    refused("type=secret,id=a,from=b", "mount option `from` is not for `type=secret`");
    refused("type=ssh,source=b", "an ssh mount has no `source`");
    refused("target=/x,ro=maybe", "mount option `ro=maybe` must be true or false");
    refused("type=cache,target=/x,mode=9", "mount option `mode=9` must be an octal number");
    refused("type=cache,target=/x,uid=root", "mount option `uid=root` must be a number");
    refused("type=tmpfs,target=/x,size=lots", "mount option `size=lots` must be a size such as `64m`");
    refused("from=$V,target=/x", "`from=$V`: variables do not work here");
    refused(
        "from=UP,target=/x",
        "`UP` is neither a stage nor an image: `UP` is not an image reference: invalid reference format (expected `[registry/]repository[:tag][@sha256:…]`, for example `registry.example.com/team/app:1.2`)",
    );
    refused("target=${V,type=bind", "`${` without a closing `}`");
}

#[test]
fn network_security_and_devices() {
    run("RUN --network=none r", r#"["/bin/sh", "-c", "r"] network=None"#);
    run("RUN --network=host r", r#"["/bin/sh", "-c", "r"] network=Host"#);
    run("RUN --network=default r", r#"["/bin/sh", "-c", "r"]"#);
    run("RUN --security=sandbox r", r#"["/bin/sh", "-c", "r"]"#);
    let mut case = Case::default();
    case.options.network = Network::None;
    case.last("FROM bare\nRUN r", r#"RUN ["/bin/sh", "-c", "r"] network=None"#);
    case.last("FROM bare\nRUN --network=host r", r#"RUN ["/bin/sh", "-c", "r"] network=Host"#);
    case.options.host_network = false;
    case.refused(
        "FROM bare\nRUN --network=host r",
        &["2:15 `--network=host` needs the entitlement `network.host`, which this build does not have"],
    );
    case.last(
        "FROM bare AS unused\nRUN --network=host r\nFROM bare\nRUN r",
        r#"RUN ["/bin/sh", "-c", "r"] network=None"#,
    );
    Case::default().refused(
        "FROM bare\nRUN --security=insecure --device=vendor.com/gpu=all r",
        &[
            "2:16 `--security=insecure` is refused: it gives the command all privileges of the machine, and this builder has none to give",
            "2:34 `--device=vendor.com/gpu=all` is refused: this builder hands out no devices",
        ],
    );
}
