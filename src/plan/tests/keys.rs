//! What changes a key and what must not.

use super::*;

/// The key of the target's last step over all its steps; a stage goes on from its base's last key.
fn last_key(plan: &BuildPlan) -> StepKey {
    let mut ends: Vec<StepKey> = Vec::new();
    for stage in &plan.stages {
        let start = match &stage.base {
            StageBase::Stage(id) => ends[id.0],
            base => base_key(base).unwrap(),
        };
        ends.push(stage.steps.iter().fold(start, |key, step| recipe_key(&key, step, &[])));
    }
    ends[plan.target.0]
}

fn key(text: &str) -> StepKey {
    last_key(&Case::default().resolve(text))
}

#[track_caller]
fn same(a: &str, b: &str) {
    assert_eq!(key(a), key(b), "{a}\n---\n{b}");
}

#[track_caller]
fn differ(a: &str, b: &str) {
    assert_ne!(key(a), key(b), "{a}\n---\n{b}");
}

/// The same for one line in a stage.
#[track_caller]
fn lines_differ(a: &str, b: &str) {
    differ(&format!("FROM bare\nWORKDIR /w\n{a}"), &format!("FROM bare\nWORKDIR /w\n{b}"));
}

#[test]
fn edits_that_change_nothing() {
    same("FROM bare\nRUN r", "\n# comment\nFROM docker.io/library/bare AS x\nRUN    r");
    same("FROM bare\nRUN r", "FROM bare\nRUN r\nLABEL a=b\nCMD x\nEXPOSE 1");
    same("FROM bare\nRUN r", "FROM bare\nLABEL a=b\nVOLUME /v\nSTOPSIGNAL 9\nRUN r");
    // An ARG counts from its declaration on.
    same("FROM bare\nRUN r", "FROM bare\nRUN r\nARG V=1");
    same("ARG V=1\nFROM bare\nRUN r", "ARG V=2\nFROM bare\nRUN r");
    same("FROM bare\nARG V=1\nCOPY a b", "FROM bare\nARG V=2\nCOPY a b");
    same("FROM bare\nENV V=1\nCOPY a b", "FROM bare\nENV V=2\nCOPY a b");
    // Neither names of stages nor unrelated stages; stages as sources count by their inputs.
    same("FROM bare AS a\nRUN x\nFROM a\nRUN y", "FROM debian AS z\nFROM bare AS b\nRUN x\nFROM b\nRUN y");
    same(
        "FROM bare AS a\nFROM scratch\nCOPY --from=a x y",
        "FROM scratch AS z\nRUN w\nFROM bare AS b\nCOPY --from=z . .\nFROM scratch\nCOPY --from=b x y",
    );
    same("FROM bare\nWORKDIR /w\nCOPY a b", "FROM bare\nWORKDIR /w\nCOPY a /w/b");
    same("FROM bare\nSHELL [\"/x\"]\nRUN [\"r\"]", "FROM bare\nRUN [\"r\"]");
}

#[test]
fn edits_that_change_the_result() {
    differ("FROM bare\nRUN r", "FROM debian\nRUN r");
    differ("FROM bare\nRUN r", "FROM --platform=linux/arm64 bare\nRUN r");
    differ("FROM scratch\nCOPY a b", "FROM bare\nCOPY a b");
    lines_differ("RUN r", "RUN s");
    lines_differ("RUN a\nRUN r", "RUN b\nRUN r");
    lines_differ("RUN r", "RUN [\"/bin/sh\", \"-c\", \"r\", \"\"]");
    lines_differ("ENV V=1\nRUN r", "ENV V=2\nRUN r");
    lines_differ("ARG V=1\nRUN r", "ARG V=2\nRUN r");
    lines_differ("USER a\nRUN r", "USER b\nRUN r");
    lines_differ("RUN r", "WORKDIR x\nRUN r");
    lines_differ("SHELL [\"/x\"]\nRUN r", "RUN r");
    lines_differ("RUN --network=none r", "RUN r");
    lines_differ("RUN <<E\n#!/a\nE", "RUN <<E\n#!/b\nE");
    lines_differ("USER a\nWORKDIR x", "USER b\nWORKDIR x");
    for (a, b) in [
        ("target=/a", "target=/b"),
        ("target=/a", "target=/a,rw"),
        ("target=/a", "target=/a,source=x"),
        ("target=/a", "target=/a,from=debian"),
        ("type=cache,target=/a", "type=cache,target=/a,id=x"),
        ("type=cache,target=/a", "type=cache,target=/a,mode=0700"),
        ("type=tmpfs,target=/a", "type=tmpfs,target=/a,size=1m"),
        ("type=secret,id=a", "type=secret,id=b"),
        ("type=secret,id=a", "type=secret,id=a,required"),
        ("type=secret,id=a", "type=secret,id=a,env=X"),
        ("type=ssh", "type=ssh,id=x"),
    ] {
        lines_differ(&format!("RUN --mount={a} r"), &format!("RUN --mount={b} r"));
    }
    for (a, b) in [
        ("COPY a b", "COPY a c"),
        ("COPY a b", "COPY a b/"),
        ("COPY a b", "COPY x b"),
        ("COPY a b c/", "COPY b a c/"),
        ("COPY a b", "ADD a b"),
        ("COPY a b", "COPY --link a b"),
        ("COPY a b", "COPY --parents a b"),
        ("COPY a b", "COPY --chown=1 a b"),
        ("COPY a b", "COPY --chmod=755 a b"),
        ("COPY a b", "COPY --exclude=x a b"),
        ("COPY a b", "COPY --from=debian a b"),
        ("COPY <<a b\n1\na", "COPY <<a b\n2\na"),
        ("COPY <<a b/\n1\na", "COPY <<c b/\n1\nc"),
        ("ADD a b", "ADD --unpack=false a b"),
        ("ADD git://x b", "ADD --keep-git-dir git://x b"),
    ] {
        lines_differ(a, b);
    }
}

#[test]
fn hidden_variables_and_inputs() {
    let text = "FROM bare\nRUN r";
    let with_proxy = Case::default().arg("http_proxy", "http://secret");
    assert_eq!(last_key(&with_proxy.resolve(text)), key(text));

    let plan = Case::default().resolve(text);
    let (parent, step) = (base_key(&plan.stages[0].base).unwrap(), &plan.stages[0].steps[0]);
    let (a, b) = (Digest::of("a"), Digest::of("b"));
    assert_ne!(recipe_key(&parent, step, &[a]), recipe_key(&parent, step, &[b]));
    assert_ne!(recipe_key(&parent, step, &[a, b]), recipe_key(&parent, step, &[b, a]));
    assert_ne!(recipe_key(&parent, step, &[a]), recipe_key(&parent, step, &[]));
    assert_ne!(recipe_key(&parent, step, &[a]), content_key(&parent, step, &[a]));
    assert_eq!(base_key(&StageBase::Stage(StageId(0))), None);
    assert_ne!(base_key(&StageBase::Scratch), Some(parent));
}

/// A key written to a cache must be found by the next version of the program.
#[test]
fn keys_are_stable() {
    let key = key("FROM scratch\nCOPY --chown=1 a /b\nRUN --mount=type=cache,target=/c [\"r\"]");
    assert_eq!(key.to_string(), "sha256:5f57ace873d3f1ade3f51aff510c9c7bfaeece134afabc3b35d0c0d28ba60fc7");
}
