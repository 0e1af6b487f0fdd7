//! Mistakes come all at once, and build checks by their names.

use super::*;

#[test]
fn every_mistake_is_said_once() {
    Case::default().refused(
        "FROM debian\nEXPOSE a b\nENV X=${Y\nSTOPSIGNAL nope\nRUN --mount=type=x,target=/y --mount=foo=1 r\nLABEL a=\"b\nUSER ${U?no user}",
        &[
            "2:8 EXPOSE `a`: `a` is not a port (0 to 65535)",
            "2:10 EXPOSE `b`: `b` is not a port (0 to 65535)",
            "3:7 `${` without a closing `}`",
            "4:12 `nope` is not a signal (expected a name such as `SIGTERM` or a number)",
            "5:13 `x` is not a mount type (there are `bind`, `cache`, `tmpfs`, `secret`, `ssh`)",
            "5:38 `foo` is not a mount option",
            "6:9 no closing `\"`",
            "7:6 variable `U` is required: no user",
        ],
    );
}

#[test]
fn from_lines_count_everywhere_the_rest_only_where_needed() {
    Case::default().refused("FROM debian\nEXPOSE x\nFROM debian", &[]);
    Case::default().refused(
        "FROM ${X} AS a\nFROM --platform=what debian AS b\nFROM Upper AS c\nFROM debian",
        &[
            "1:6 `${X}` gives no image name",
            "2:17 `what` is not a platform (expected `os/arch` or `os/arch/variant`, for example `linux/amd64`)",
            "3:6 `Upper` is not an image reference: invalid reference format (expected `[registry/]repository[:tag][@sha256:…]`, for example `registry.example.com/team/app:1.2`)",
        ],
    );
    Case::default().refused("ARG A=${B\nFROM debian", &["1:7 `${` without a closing `}`"]);
    Case::default().refused("FROM --platform=$NOPE debian", &["1:17 `--platform=$NOPE` gives no platform"]);
}

#[test]
fn undefined_variables() {
    let warned = |text: &str, expected: &[&str]| Case::default().warned(text, expected);
    warned("FROM debian\nUSER $LANG", &[]);
    warned("FROM debian\nUSER $LNAG", &["2 UndefinedVar `$LNAG` is not defined, did you mean `LANG`?"]);
    warned("FROM debian\nARG A\nUSER $A", &[]);
    // A fallback is no excuse.
    warned("FROM debian\nUSER ${A:-x}", &["2 UndefinedVar `$A` is not defined"]);
    warned("FROM debian\nRUN $A\nCMD [\"$A\"]", &[]);
    warned(
        "FROM debian\nCOPY $a $b",
        &["2 UndefinedVar `$a` is not defined", "2 UndefinedVar `$b` is not defined"],
    );
    warned("# check=skip=UndefinedVar\nFROM debian\nUSER $A", &[]);
    warned("# check=skip=all\nFROM debian\nUSER $A", &[]);
    Case::default().arg("BUILDKIT_DOCKERFILE_CHECK", "skip=all").warned("FROM debian\nUSER $A", &[]);
    Case::default().refused("# check=error=true\nFROM debian\nUSER $A", &["3:6 `$A` is not defined"]);
}

#[test]
fn checks_of_from() {
    let warned = |text: &str, expected: &[&str]| Case::default().warned(text, expected);
    warned(
        "ARG VERSION=debian\nFROM ${VERSOIN}debian",
        &[
            "2 UndefinedArgInFrom FROM uses `$VERSOIN`, which no ARG before it declares, did you mean `VERSION`?",
        ],
    );
    warned(
        "FROM --platform=$TARGETPLATFORM debian",
        &["1 RedundantTargetPlatform `--platform=$TARGETPLATFORM` is what FROM does anyway"],
    );
    warned("FROM --platform=$BUILDPLATFORM debian", &[]);
    warned(
        "FROM --platform=linux/amd64 debian",
        &["1 FromPlatformFlagConstDisallowed FROM --platform should not be the constant `linux/amd64`"],
    );
    warned("FROM --platform=linux/amd64 debian AS build-amd64", &[]);
    Case::default().arg("TAG", "latest").warned(
        "ARG TAG\nFROM debian:${TAG}",
        &["2 InvalidDefaultArgInFrom without build arguments `debian:${TAG}` is not a valid image name"],
    );
    Case::default().arg("TAG", "latest").warned("ARG TAG=x\nFROM debian:${TAG}", &[]);
}

#[test]
fn checks_of_stages() {
    let warned =
        |lines: &str, expected: &[&str]| Case::default().warned(&format!("FROM debian\n{lines}"), expected);
    warned(
        "ARG GITHUB_TOKEN\nENV api_key=x PUBLIC_KEY=y KEYBOARD=z\nARG TOKEN_FILE",
        &[
            "2 SecretsUsedInArgOrEnv ARG is no place for secrets: `GITHUB_TOKEN` stays in the image's history",
            "3 SecretsUsedInArgOrEnv ENV is no place for secrets: `api_key` stays in the image's history",
        ],
    );
    warned(
        "WORKDIR a\nWORKDIR b",
        &["2 WorkdirRelativePath relative WORKDIR `a` depends on the base image's directory"],
    );
    warned("WORKDIR /a\nWORKDIR b", &[]);
    warned(
        "CMD [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\nHEALTHCHECK NONE\nHEALTHCHECK NONE",
        &[
            "2 MultipleInstructionsDisallowed only the last CMD of a stage counts, this one is ignored",
            "4 MultipleInstructionsDisallowed only the last ENTRYPOINT of a stage counts, this one is ignored",
            "6 MultipleInstructionsDisallowed only the last HEALTHCHECK of a stage counts, this one is ignored",
        ],
    );
    warned(
        "EXPOSE 80/Tcp 1.2.3.4:1:2",
        &[
            "2 ExposeProtoCasing the protocol in `80/Tcp` should be lower case",
            "2 ExposeInvalidFormat EXPOSE `1.2.3.4:1:2`: addresses and host ports have no effect here",
        ],
    );
}
