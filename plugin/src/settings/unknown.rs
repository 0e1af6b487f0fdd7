//! Settings nobody knows: most are typing errors, so the nearest name is offered.

use super::finding::{Code, Finding, Findings};
use super::table::{NO_EFFECT_PREFIXES, TABLE};
use super::variables::Variables;

/// The greatest edit distance at which a name is offered.
const NEAR: usize = 2;

/// Reports every setting with a value that no table knows.
pub(super) fn report(variables: &Variables<'_>, strict: bool, findings: &mut Findings) {
    for (name, variable) in variables.settings() {
        let blank = variable.value.trim().is_empty();
        if blank || known_names().any(|known| known == name) {
            continue;
        }
        if NO_EFFECT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let problem = "it has no effect here";
            findings.add(Finding::new(Code::NoEffectWarning, &variable.written, problem));
            continue;
        }
        let code = if strict { Code::Unknown } else { Code::UnknownWarning };
        let mut finding = Finding::new(code, &variable.written, "there is no such setting");
        finding.suggest = nearest(name).map(str::to_lowercase);
        findings.add(finding);
    }
}

fn known_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|setting| setting.names.iter().copied())
}

fn nearest(name: &str) -> Option<&'static str> {
    known_names()
        .map(|known| (distance(name, known), known))
        .filter(|(d, _)| *d <= NEAR)
        .min()
        .map(|(_, n)| n)
}

/// Levenshtein's distance: insertions, deletions and replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        for (name, expected) in [
            ("DOCKERFLIE", Some("DOCKERFILE")),
            ("REPOS", Some("REPO")),
            ("BUILD_ARG", Some("BUILD_ARGS")),
            ("SOMETHING_ELSE", None),
        ] {
            assert_eq!(nearest(name), expected, "{name}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("abc", "abc", 0), ("abc", "acb", 2), ("ab", "abc", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
