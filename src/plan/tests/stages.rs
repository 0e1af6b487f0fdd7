//! FROM, targets, reachability, named contexts, ONBUILD.

use super::*;

fn plan(text: &str, expected: &str) {
    Case::default().plan(text, expected);
}

#[test]
fn from() {
    plan("FROM scratch", "stage-0 from scratch");
    plan("FROM debian", "stage-0 from debian linux/amd64");
    plan("FROM docker.io/library/debian:latest AS Base", "Base from debian linux/amd64");
    plan("FROM --platform=linux/arm64 debian", "stage-0 from debian linux/arm64");
    plan("ARG B=debian\nFROM ${B}", "stage-0 from debian linux/amd64");
    plan("ARG A=deb\nARG B=${A}ian\nFROM ${B:-x}", "stage-0 from debian linux/amd64");
    plan("FROM ${NONE:-debian}", "stage-0 from debian linux/amd64");
    plan("FROM --platform=$BUILDPLATFORM debian", "stage-0 from debian linux/amd64");
    Case::default().arg("B", "bare").plan("ARG B=debian\nFROM ${B}", "stage-0 from bare linux/amd64");
    Case::default().arg("B", "").refused("ARG B=debian\nFROM $B", &["2:6 `$B` gives no image name"]);
}

#[test]
fn stages_on_stages() {
    let expected = "
        a from debian linux/amd64
        stage-1 from a";
    plan("FROM debian AS a\nFROM a", expected);
    // The platform is the base stage's, as its files are.
    plan("FROM --platform=linux/arm64 debian AS a\nFROM a", "a from debian linux/arm64\nstage-1 from a");
    // A stage hides an image of its name, the latest earlier one counts.
    plan("FROM bare AS debian\nFROM debian", "debian from bare linux/amd64\nstage-1 from debian");
    plan("FROM bare AS a\nFROM debian AS a\nFROM a", "a from debian linux/amd64\nstage-2 from a");
    // A later stage does not.
    plan("FROM debian\nFROM scratch AS debian", "debian from scratch");
}

#[test]
fn only_what_the_target_needs_in_order() {
    let text = "
FROM debian AS unused
RUN nothing
FROM debian AS tools
RUN tools
FROM bare AS data
FROM tools AS build
COPY --from=data /d /d
FROM scratch AS last
COPY --from=3 /b /b
";
    plan(
        text,
        r#"
        tools from debian linux/amd64
          RUN ["/bin/sh", "-c", "tools"] env[LANG=C]
        data from bare linux/amd64
        build from tools
          COPY from=data "/d" -> /d
        last from scratch
          COPY from=build "/b" -> /b
        "#,
    );
    Case::default().target("DATA").plan(text, "data from bare linux/amd64");
    Case::default().target("Data").plan(text, "data from bare linux/amd64");
    Case::default().target("biuld").refused(
        text,
        &["there is no stage `biuld` to build, did you mean `build`? (stages: `unused`, `tools`, `data`, `build`, `last`)"],
    );
    Case::default().target("0").refused(
        "FROM scratch",
        &["there is no stage `0` to build: no stage has a name (write `FROM … AS name`)"],
    );
}

#[test]
fn mounts_reach_stages_and_images() {
    plan(
        "FROM bare AS a\nFROM debian\nRUN --mount=from=A,target=/a --mount=type=bind,from=tools,target=/t,source=x cmd",
        r#"
        a from bare linux/amd64
        stage-1 from debian linux/amd64
          RUN ["/bin/sh", "-c", "cmd"] env[LANG=C] bind(a:/ /a ro) bind(image:tools:/x /t ro)
        reads docker.io/library/tools:latest linux/amd64
        "#,
    );
    plan(
        "FROM debian\nCOPY --from=r.io/x:1 a b",
        "
        stage-0 from debian linux/amd64
          COPY from=image:r.io/x:1 \"a\" -> /b
        reads r.io/x:1 linux/amd64
        ",
    );
}

#[test]
fn platforms_of_the_config() {
    let case = |platform_text: &str| {
        let mut case = Case::default();
        case.options.platform = platform(platform_text);
        case
    };
    case("linux/arm64").config("FROM scratch", "architecture", "\"arm64\"");
    case("linux/arm/v7").config("FROM scratch", "variant", "\"v7\"");
    // The last stage is for the target platform whatever it started from.
    case("linux/arm64").config("FROM --platform=$BUILDPLATFORM debian", "architecture", "\"arm64\"");
    case("linux/amd64").config("FROM --platform=linux/arm64 debian", "architecture", "\"arm64\"");
    case("linux/arm64").plan("FROM debian", "stage-0 from debian linux/arm64");
}

#[test]
fn named_contexts() {
    let image = || NamedContext::Image(reference("bare"));
    let directory = || NamedContext::Directory("/ctx".into());
    let case = |name: &str, context: NamedContext| Case::default().context(name, context);
    case("debian", image()).plan("FROM debian:latest", "stage-0 from bare linux/amd64");
    case("debian", image()).plan("FROM debian:12 AS x\nFROM scratch", "stage-1 from scratch");
    // A stage of the name is replaced with all it does.
    case("tools", image()).plan(
        "FROM debian AS tools\nRUN x\nFROM scratch\nCOPY --from=tools a b",
        "
        tools from bare linux/amd64
        stage-1 from scratch
          COPY from=tools \"a\" -> /b
        ",
    );
    case("tools", directory()).plan(
        "FROM debian AS tools\nRUN x\nFROM scratch\nCOPY --from=tools a b",
        "
        stage-1 from scratch
          COPY from=named:tools \"a\" -> /b
        reads context tools
        ",
    );
    case("data", directory()).plan(
        "FROM bare\nCOPY --from=data . .\nRUN --mount=from=data,target=/d x",
        r#"
        stage-0 from bare linux/amd64
          COPY from=named:data "." -> /
          RUN ["/bin/sh", "-c", "x"] bind(named:data:/ /d ro)
        reads context data
        "#,
    );
    case("data", image()).plan(
        "FROM scratch\nCOPY --from=data /a /a",
        "
        stage-0 from scratch
          COPY from=image:bare \"/a\" -> /a
        reads docker.io/library/bare:latest linux/amd64
        ",
    );
    // Reserved names are no contexts.
    case("scratch", image()).plan("FROM scratch", "stage-0 from scratch");
    // Files after FROM are scratch with one step.
    case("debian", directory()).plan(
        "FROM debian AS x\nRUN y\nFROM x",
        r#"
        x from scratch
          COPY from=named:debian link "/" -> /
          RUN ["/bin/sh", "-c", "y"]
        stage-1 from x
        reads context debian
        "#,
    );
    case("tools", directory()).plan(
        "FROM debian AS tools\nRUN x\nFROM tools\nRUN y\nCOPY --from=tools a b",
        r#"
        tools from scratch
          COPY from=named:tools link "/" -> /
        stage-1 from tools
          RUN ["/bin/sh", "-c", "y"]
          COPY from=named:tools "a" -> /b
        reads context tools
        "#,
    );
    case("debian", directory()).config("FROM debian", "WorkingDir", "\"/\"");
    // What nobody has fetched yet, for checks.
    case("data", NamedContext::Other("https://x".into())).plan(
        "FROM scratch\nCOPY --from=data a b",
        "
        stage-0 from scratch
          COPY from=named:data \"a\" -> /b
        reads context data
        ",
    );
    case("bare", NamedContext::OciLayout("x".into())).plan("FROM bare", "stage-0 from bare linux/amd64");
}

#[test]
fn triggers_of_an_image_run_first_and_once() {
    let text = "FROM bare AS tools\nFROM trigger AS app\nRUN own\nFROM app";
    let case = Case::default();
    case.plan(
        text,
        r#"
        tools from bare linux/amd64
        app from trigger linux/amd64
          COPY from=tools "/t" -> /t
          RUN ["/bin/sh", "-c", "make"] env[T=1] bind(image:extra:/ /x ro)
          RUN ["/bin/sh", "-c", "own"] env[T=1]
        stage-2 from app
        reads docker.io/library/extra:latest linux/amd64
        "#,
    );
    case.config(text, "OnBuild", "-");
    let step = &case.resolve(text).stages[1].steps[0];
    assert_eq!((step.span, step.from_span.start.line, step.text.as_str()), (None, 2, "ONBUILD ENV T=1"));
    case.refused(
        "FROM debian\nFROM badtrigger",
        &[
            "2:1 ONBUILD `COPPY a b` of the base image: unknown instruction `COPPY`",
            "2:1 `nope` is not a signal (expected a name such as `SIGTERM` or a number)",
        ],
    );
}

#[test]
fn triggers_of_a_stage() {
    let text = "
FROM scratch AS data
FROM debian AS base
ONBUILD ARG V=1
ONBUILD COPY --from=data /a /$V
ONBUILD WORKDIR /w
FROM base
COPY b .
";
    Case::default().plan(
        text,
        r#"
        data from scratch
        base from debian linux/amd64
        stage-2 from base
          COPY from=data "/a" -> /1
          WORKDIR /w user=
          COPY "b" -> /w/
        "#,
    );
    Case::default().target("base").config(
        text,
        "OnBuild",
        r#"["ARG V=1","COPY --from=data /a /$V","WORKDIR /w"]"#,
    );
    Case::default().config(text, "OnBuild", "-");
    // Verbatim, and without a history entry.
    let plan = Case::default().target("base").resolve(text);
    assert!(plan.stages[plan.target.0].steps.is_empty());
}

#[test]
fn outline_says_what_to_fetch() {
    let check = |text: &str, known: &Bases, expected: &[&str]| {
        let parsed = parse("Dockerfile", text.as_bytes());
        let outline = outline(&parsed.dockerfile, &Case::default().options, known).unwrap();
        let found: Vec<String> = outline.bases.iter().map(|(image, on)| format!("{image} {on}")).collect();
        assert_eq!(found, expected, "{text}");
    };
    let text = "FROM --platform=linux/arm64 trigger\nFROM unneeded\nFROM 0 AS x";
    let text = text.replace("FROM unneeded\nFROM 0 AS x", "COPY --from=x:1 a b");
    check(
        &text,
        &Bases::new(),
        &["docker.io/library/trigger:latest linux/arm64", "docker.io/library/x:1 linux/amd64"],
    );
    // The trigger's images come with its config.
    check(
        &text,
        &bases(),
        &[
            "docker.io/library/extra:latest linux/amd64",
            "docker.io/library/tools:latest linux/amd64",
            "docker.io/library/trigger:latest linux/arm64",
            "docker.io/library/x:1 linux/amd64",
        ],
    );
    check("FROM unneeded\nFROM scratch", &Bases::new(), &[]);
}

#[test]
fn outline_finds_mistakes_that_need_no_base() {
    let check = |text: &str, expected: &[&str]| {
        let parsed = parse("Dockerfile", text.as_bytes());
        let found = match outline(&parsed.dockerfile, &Case::default().options, &Bases::new()) {
            Err(PlanError::Diagnostics(all)) => said(&all, Severity::Error),
            Err(other) => vec![other.to_string()],
            Ok(_) => Vec::new(),
        };
        assert_eq!(found, expected, "{text}");
    };
    check(
        "FROM debian\nEXPOSE x\nSTOPSIGNAL nope\nCOPY --from=later a b\nFROM debian AS later\nFROM later",
        &[],
    );
    check(
        "FROM debian\nEXPOSE x\nSTOPSIGNAL nope",
        &[
            "2:8 EXPOSE `x`: `x` is not a port (0 to 65535)",
            "3:12 `nope` is not a signal (expected a name such as `SIGTERM` or a number)",
        ],
    );
    // The base may set PORT; what rests on it is not certain either.
    check("FROM debian\nEXPOSE $PORT", &[]);
    check("FROM debian\nENV P=$PORT Q=1\nEXPOSE $P\nEXPOSE $Q", &[]);
    check("FROM debian\nARG P=${PORT}x\nEXPOSE $P", &[]);
    check("FROM scratch\nEXPOSE ${PORT:-x}", &["2:8 EXPOSE `x`: `x` is not a port (0 to 65535)"]);
}

#[test]
fn resolve_wants_every_base() {
    let parsed = parse("Dockerfile", b"FROM debian");
    let error = resolve(&parsed.dockerfile, &Case::default().options, &Bases::new()).unwrap_err();
    assert_eq!(error, PlanError::MissingBase(Box::new((reference("debian"), platform("linux/amd64")))));
}
