//! How a CI system's log wants sections, errors and colour written, as data:
//! nothing here prints.

use super::{Environment, System};

/// The log dialect of a CI system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Lines only.
    Plain,
    /// GitLab's `section_start` and `section_end` control lines.
    GitLab,
    /// GitHub's workflow commands, which Gitea and Forgejo share. Groups do not nest.
    GitHub,
    /// Azure Pipelines' logging commands.
    Azure,
}

/// Where an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorPlace<'a> {
    /// The file, relative to the workspace.
    pub file: &'a str,
    /// The line, from 1.
    pub line: usize,
}

impl Dialect {
    /// The dialect of `system`.
    pub fn of(system: System) -> Self {
        match system {
            System::GitLab => Self::GitLab,
            System::GitHub | System::Gitea | System::Forgejo => Self::GitHub,
            System::Azure => Self::Azure,
            _ => Self::Plain,
        }
    }

    /// The line that opens a section; nothing where the log has none. `name` must
    /// be unique in the log and is made legal here; `at` is in seconds since 1970.
    /// `collapsed` counts in GitLab only: leave the section that fails open.
    pub fn open_section(self, name: &str, title: &str, at: i64, collapsed: bool) -> Option<String> {
        let title = one_line(title);
        match self {
            Self::Plain => None,
            Self::GitLab => {
                let option = if collapsed { "[collapsed=true]" } else { "" };
                let name = section_name(name);
                Some(format!("\x1b[0Ksection_start:{at}:{name}{option}\r\x1b[0K{title}"))
            }
            Self::GitHub => Some(format!("::group::{title}")),
            Self::Azure => Some(format!("##[group]{title}")),
        }
    }

    /// The line that closes the section of that name.
    pub fn close_section(self, name: &str, at: i64) -> Option<String> {
        match self {
            Self::Plain => None,
            Self::GitLab => Some(format!("\x1b[0Ksection_end:{at}:{}\r\x1b[0K", section_name(name))),
            Self::GitHub => Some("::endgroup::".to_owned()),
            Self::Azure => Some("##[endgroup]".to_owned()),
        }
    }

    /// The line that makes the CI show an error beside the file; nothing where the
    /// plain message is all there is.
    pub fn error_line(self, place: Option<ErrorPlace<'_>>, title: &str, message: &str) -> Option<String> {
        match self {
            Self::Plain | Self::GitLab => None,
            Self::GitHub => {
                let place = place
                    .map(|at| format!("file={},line={},", github_property(at.file), at.line))
                    .unwrap_or_default();
                let title = github_property(title);
                Some(format!("::error {place}title={title}::{}", github_data(message)))
            }
            Self::Azure => {
                let place = place
                    .map(|at| format!("sourcepath={};linenumber={}", azure_property(at.file), at.line))
                    .unwrap_or_default();
                Some(format!("##vso[task.logissue type=error;{place}]{}", azure_data(message)))
            }
        }
    }
}

/// Whether to colour: the user's own variables first, then what the CI's log
/// viewer can show, then whether a person is looking.
pub fn colour(system: System, environment: &Environment, terminal: bool) -> bool {
    let set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    if set("NO_COLOR") {
        return false;
    }
    if set("CLICOLOR_FORCE") && environment.get("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    if environment.get("TERM").is_some_and(|term| term == "dumb") {
        return false;
    }
    match system {
        System::GitLab | System::Drone | System::Woodpecker | System::CircleCi => true,
        System::None => terminal,
        other => other.is_github_family(),
    }
}

/// GitLab takes `[A-Za-z0-9_.-]` in a section's name.
fn section_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    name.chars().map(legal).collect()
}

/// A title is one line: a line break in it would start a command of its own.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

fn github_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn github_property(text: &str) -> String {
    github_data(text).replace(':', "%3A").replace(',', "%2C")
}

fn azure_data(text: &str) -> String {
    text.replace('%', "%AZP25").replace('\r', "%0D").replace('\n', "%0A")
}

fn azure_property(text: &str) -> String {
    azure_data(text).replace(';', "%3B").replace(']', "%5D")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections() {
        let gitlab = Dialect::of(System::GitLab);
        assert_eq!(
            gitlab.open_section("build 2/5", "RUN make", 7, true).unwrap(),
            "\x1b[0Ksection_start:7:build_2_5[collapsed=true]\r\x1b[0KRUN make"
        );
        assert_eq!(gitlab.close_section("build 2/5", 9).unwrap(), "\x1b[0Ksection_end:9:build_2_5\r\x1b[0K");
        let github = Dialect::of(System::Forgejo);
        assert_eq!(
            github.open_section("x", "RUN a\n::error::b", 7, true).unwrap(),
            "::group::RUN a ::error::b"
        );
        assert_eq!(github.close_section("x", 7).unwrap(), "::endgroup::");
        let azure = Dialect::of(System::Azure);
        assert_eq!(azure.open_section("x", "RUN make", 7, false).unwrap(), "##[group]RUN make");
        assert_eq!(Dialect::of(System::Jenkins).open_section("x", "t", 7, false), None);
    }

    #[test]
    fn errors() {
        let place = Some(ErrorPlace { file: "Dockerfile", line: 3 });
        assert_eq!(
            Dialect::GitHub.error_line(place, "RUN: failed", "100%\nexit 2").unwrap(),
            "::error file=Dockerfile,line=3,title=RUN%3A failed::100%25%0Aexit 2"
        );
        assert_eq!(
            Dialect::Azure.error_line(place, "t", "exit 2").unwrap(),
            "##vso[task.logissue type=error;sourcepath=Dockerfile;linenumber=3]exit 2"
        );
        assert_eq!(Dialect::GitLab.error_line(place, "t", "m"), None);
    }

    #[test]
    fn colours() {
        let check = |system, pairs: &[(&str, &str)], terminal, expected| {
            let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(colour(system, &environment, terminal), expected, "{system} {pairs:?}");
        };
        check(System::GitLab, &[], false, true);
        check(System::GitLab, &[("NO_COLOR", "1")], false, false);
        check(System::GitLab, &[("NO_COLOR", "")], false, true);
        check(System::GitLab, &[("TERM", "dumb")], false, false);
        check(System::Jenkins, &[], true, false);
        check(System::Jenkins, &[("CLICOLOR_FORCE", "1")], false, true);
        check(System::Jenkins, &[("CLICOLOR_FORCE", "0")], false, false);
        check(System::Forgejo, &[], false, true);
        check(System::None, &[], true, true);
        check(System::None, &[], false, false);
    }
}
