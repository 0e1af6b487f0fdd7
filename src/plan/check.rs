//! BuildKit's build checks that need a plan, by their public names
//! (docs.docker.com/reference/build-checks).

use std::collections::BTreeSet;

use super::report::Report;
use super::scope::{Expansion, Variables, guess};
use crate::dockerfile::{Diagnostic, Span, Word};
use crate::image::Platform;

/// A variable in FROM that no ARG before FROM declares.
pub(super) fn undefined_in_from(
    report: &mut Report,
    word: &Word,
    unmatched: &BTreeSet<String>,
    known: &Variables,
    declared: &[String],
) {
    for name in unmatched.iter().filter(|name| !declared.contains(name)) {
        let mut names = known.names();
        names.extend(declared.iter().map(String::as_str));
        let message = format!("FROM uses `${name}`, which no ARG before it declares{}", guess(name, &names));
        report.warning("UndefinedArgInFrom", word.span, message);
    }
}

/// The default of a global ARG does not lead to an image.
pub(super) fn invalid_default(report: &mut Report, image: &Word) {
    let message = format!("without build arguments `{}` is not a valid image name", image.text);
    report.warning("InvalidDefaultArgInFrom", image.span, message);
}

/// `FROM --platform=…`: the default written out, or a constant.
pub(super) fn from_platform(
    report: &mut Report,
    word: &Word,
    expansion: &Expansion,
    target: Option<&str>,
    name: &str,
) {
    let Expansion { value, matched, unmatched } = expansion;
    let only_target = matched.len() == 1 && unmatched.is_empty() && matched.contains("TARGETPLATFORM");
    if only_target && target == Some(value) {
        let message = format!("`--platform={}` is what FROM does anyway", word.text);
        report.warning("RedundantTargetPlatform", word.span, message);
    }
    if !matched.is_empty() || !unmatched.is_empty() {
        return;
    }
    let Ok(platform) = value.parse::<Platform>() else { return };
    if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
        let message = format!("FROM --platform should not be the constant `{value}`");
        report.warning("FromPlatformFlagConstDisallowed", word.span, message);
    }
}

/// The registry had something else than was asked for.
pub(super) fn base_platform(
    report: &mut Report,
    span: Span,
    name: &str,
    wanted: &Platform,
    found: &Platform,
) {
    if wanted.os != found.os || wanted.architecture != found.architecture {
        let message = format!("base image `{name}` is for {found}, expected {wanted}");
        report.warning("InvalidBaseImagePlatform", span, message);
    }
}

/// ARG and ENV values end up in the image.
pub(super) fn secret_name(report: &mut Report, span: Span, instruction: &str, name: &str) {
    let mut parts = name.split('_').map(str::to_ascii_lowercase);
    let parts: Vec<String> = parts.by_ref().collect();
    let says = |words: &[&str]| parts.iter().any(|part| words.contains(&part.as_str()));
    if says(&SECRET_WORDS) && !says(&HARMLESS_WORDS) {
        let message = format!("{instruction} is no place for secrets: `{name}` stays in the image's history");
        report.warning("SecretsUsedInArgOrEnv", span, message);
    }
}

const SECRET_WORDS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

const HARMLESS_WORDS: [&str; 3] = ["public", "file", "version"];

/// The first WORKDIR depends on what the base image has.
pub(super) fn relative_workdir(report: &mut Report, span: Span, path: &str) {
    let message = format!("relative WORKDIR `{path}` depends on the base image's directory");
    report.warning("WorkdirRelativePath", span, message);
}

/// `CMD` and `ENTRYPOINT` in shell form where no SHELL says that this is meant.
pub(super) fn shell_form(report: &mut Report, span: Span, instruction: &str, line: &str) {
    let hint = if line.starts_with('[') {
        "the brackets do not hold valid JSON: every element needs double quotes, with commas between"
            .to_owned()
    } else {
        format!("use the JSON form: `{instruction} [\"program\", \"argument\"]`")
    };
    let message = format!("`{instruction}` runs in a shell, which does not pass signals on");
    report.push(Diagnostic::warning("JSONArgsRecommended", span, message).with_hint(hint));
}

/// `ENV name value`.
pub(super) fn legacy_pair(report: &mut Report, span: Span, instruction: &str) {
    let found = Diagnostic::warning(
        "LegacyKeyValueFormat",
        span,
        format!("`{instruction} key value` is the old form"),
    );
    report.push(found.with_hint(format!("write `{instruction} key=value`")));
}

/// Said at the earlier one: it has no effect.
pub(super) fn used_once(report: &mut Report, earlier: Option<Span>, instruction: &str) {
    if let Some(span) = earlier {
        let message = format!("only the last {instruction} of a stage counts, this one is ignored");
        report.warning("MultipleInstructionsDisallowed", span, message);
    }
}

/// `EXPOSE 80/TCP`.
pub(super) fn expose_casing(report: &mut Report, span: Span, port: &str) {
    report.warning("ExposeProtoCasing", span, format!("the protocol in `{port}` should be lower case"));
}

/// `EXPOSE 127.0.0.1:80:8080`.
pub(super) fn expose_format(report: &mut Report, span: Span, port: &str) {
    let message = format!("EXPOSE `{port}`: addresses and host ports have no effect here");
    report.warning("ExposeInvalidFormat", span, message);
}
