//! Checks, outline and targets: no base is known.

use super::*;

const TEXT: &str = "\
# version of the tool
ARG version=3
FROM registry.example.com/go:$version AS build
# proxy where modules come from
ARG proxy=direct
ARG unset
RUN --mount=type=secret,id=token,required=true --mount=type=cache,id=mod,target=/m x
RUN --mount=type=secret,id=token,env=T --mount=type=ssh y
# app the program
FROM scratch AS app
COPY --from=build /x /x
COPY a/b c* /y/
FROM scratch AS unused
COPY --from=build /x $nothing
";

#[test]
fn a_check_looks_into_every_stage() {
    let parsed = parse("Dockerfile", TEXT.as_bytes());
    let found = lint(&parsed.dockerfile, &Case::default().target("app").options, &Bases::new());
    assert!(found.diagnostics.is_empty(), "a target is all that is asked about");
    let found = lint(&parsed.dockerfile, &Case::default().options, &Bases::new());
    let checks: Vec<_> = found.diagnostics.iter().map(|found| (found.check, found.span.start.line)).collect();
    assert_eq!(checks, [(Some("UndefinedVar"), 14)]);
    let sources: Vec<_> = found.context_sources.iter().map(|source| source.path.as_str()).collect();
    assert_eq!(sources, ["a/b", "c*"]);
}

#[test]
fn an_unknown_target_is_a_finding() {
    let parsed = parse("Dockerfile", TEXT.as_bytes());
    let found = lint(&parsed.dockerfile, &Case::default().target("ap").options, &Bases::new());
    assert!(found.diagnostics[0].message.contains("ap"), "{:?}", found.diagnostics);
}

#[test]
fn an_outline_is_what_the_target_takes() {
    let parsed = parse("Dockerfile", TEXT.as_bytes());
    let options = Case::default().target("app").arg("proxy", "mirror").options;
    let found = summary(&parsed.dockerfile, &options).unwrap();
    assert_eq!((found.name.as_deref(), found.description.as_deref()), (Some("app"), Some("the program")));
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let args: Vec<_> =
        found.args.iter().map(|arg| (arg.name.as_str(), text(&arg.value), text(&arg.description))).collect();
    let row = |name, value: &str, about: &str| (name, value.to_owned(), about.to_owned());
    assert_eq!(
        args,
        [
            row("version", "3", "of the tool"),
            row("proxy", "mirror", "where modules come from"),
            row("unset", "", "")
        ]
    );
    let given =
        |list: &[GivenSummary]| -> Vec<_> { list.iter().map(|one| (one.id.clone(), one.required)).collect() };
    assert_eq!(given(&found.secrets), [("token".to_owned(), true)]);
    assert_eq!(given(&found.ssh), [("default".to_owned(), false)]);
    assert_eq!(found.caches.len(), 1);
    let other = summary(&parsed.dockerfile, &Case::default().options).unwrap();
    assert_eq!(other.name.as_deref(), Some("unused"));
}

#[test]
fn targets_are_all_stages() {
    let parsed = parse("Dockerfile", TEXT.as_bytes());
    let found: Vec<_> = targets(&parsed.dockerfile)
        .into_iter()
        .map(|target| (target.name.unwrap_or_default(), target.base, target.is_default))
        .collect();
    let row = |name: &str, base: &str, last| (name.to_owned(), base.to_owned(), last);
    assert_eq!(
        found,
        [
            row("build", "registry.example.com/go:$version", false),
            row("app", "scratch", false),
            row("unused", "scratch", true)
        ]
    );
}
