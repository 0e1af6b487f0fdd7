//! `COPY` and `ADD`.

use super::draft::{Draft, Site};
use super::graph::{FromName, Source};
use super::op::{AddOptions, Chmod, CopyFrom, CopyOp, CopySource, Op};
use super::path;
use super::report::Report;
use crate::dockerfile::{AddFlags, CopyFlags, CopySources, Diagnostic, Heredoc, Span, Word};

/// Adds the step of a COPY.
pub(super) fn copy(
    draft: &mut Draft,
    site: Site<'_>,
    flags: &CopyFlags,
    from: Option<&Word>,
    sources: &CopySources,
    report: &mut Report,
) -> Option<()> {
    let origin = match from.and_then(FromName::of_copy) {
        None => Some(CopyFrom::Context),
        Some(from) => copy_from(site, &from, report),
    };
    let words = expand(draft, site, flags, sources, report)?;
    for (source, word) in words.paths.iter().zip(&sources.paths) {
        let kind = match classify(source) {
            CopySource::Git(_) => "a git repository",
            CopySource::Http(_) => "a URL",
            CopySource::Path(_) | CopySource::Inline { .. } => continue,
        };
        let message = format!("COPY cannot read {kind}, `{source}`");
        report.push(Diagnostic::error(word.span, message).with_hint("use ADD"));
    }
    let chmod = words.chmod(flags, report)?;
    let created_by = words.history("COPY", flags.parents);
    let op = words.into_op(origin?, flags, chmod, None, draft.directory());
    draft.step(site, Op::Copy(Box::new(op)), created_by);
    Some(())
}

/// Adds the step of an ADD.
pub(super) fn add(
    draft: &mut Draft,
    site: Site<'_>,
    flags: &CopyFlags,
    add: &AddFlags,
    sources: &CopySources,
    report: &mut Report,
) -> Option<()> {
    let words = expand(draft, site, flags, sources, report);
    let checksum = match &add.checksum {
        Some(word) => draft.expander(site, report).word(word),
        None => Some(String::new()),
    };
    let words = words?;
    let chmod = words.chmod(flags, report);
    let checksum = checksum?;
    if let Some(word) = add.checksum.as_ref().filter(|_| !checksum.is_empty()) {
        report.take(word.span, check_checksum(&checksum, &words.paths))?;
    }
    let options = AddOptions {
        checksum: Some(checksum).filter(|checksum| !checksum.is_empty()),
        keep_git_dir: add.keep_git_dir.unwrap_or(false),
        unpack: add.unpack,
    };
    let created_by = words.history("ADD", flags.parents);
    let op = words.into_op(CopyFrom::Context, flags, chmod?, Some(options), draft.directory());
    draft.step(site, Op::Copy(Box::new(op)), created_by);
    Some(())
}

fn copy_from(site: Site<'_>, from: &FromName, report: &mut Report) -> Option<CopyFrom> {
    match site.source(from)? {
        Source::Stage(stage) => site.id(stage).map(CopyFrom::Stage),
        Source::Image(reference) => Some(CopyFrom::Image(reference)),
        Source::Named(name) => Some(CopyFrom::Named(name)),
        Source::Empty => {
            report.error(from.span, "nothing can be copied from `scratch`, it is empty");
            None
        }
    }
}

/// The name of a heredoc becomes that of a file: it must not lead elsewhere.
pub(super) fn check_names(site: Site<'_>, heredocs: &[Heredoc], report: &mut Report) -> Option<()> {
    let leads_away = |name: &str| name.contains('/') || matches!(name, "." | "..");
    let Some(wrong) = heredocs.iter().find(|heredoc| leads_away(&heredoc.name)) else { return Some(()) };
    report.error(site.span(), format!("`{}` cannot be the name of an inline file", wrong.name));
    None
}

/// The words of a COPY or ADD, expanded.
struct Words {
    paths: Vec<String>,
    /// Name and content.
    inline: Vec<(String, String)>,
    destination: String,
    chown: String,
    chmod: String,
    exclude: Vec<String>,
}

fn expand(
    draft: &Draft,
    site: Site<'_>,
    flags: &CopyFlags,
    sources: &CopySources,
    report: &mut Report,
) -> Option<Words> {
    let named = check_names(site, &sources.heredocs, report);
    let mut expander = draft.expander(site, report);
    let paths = expander.words(&sources.paths);
    let destination = expander.word(&sources.destination);
    let mut optional = |word: &Option<Word>| match word {
        Some(word) => expander.word(word),
        None => Some(String::new()),
    };
    let (chown, chmod) = (optional(&flags.chown), optional(&flags.chmod));
    let inline: Vec<_> = sources
        .heredocs
        .iter()
        .map(|heredoc| match heredoc.expand {
            true => expander.heredoc(&heredoc.content, heredoc.span),
            false => Some(heredoc.content.clone()),
        })
        .zip(&sources.heredocs)
        .map(|(content, heredoc)| Some((heredoc.name.clone(), content?)))
        .collect();
    named?;
    Some(Words {
        paths: paths?,
        inline: inline.into_iter().collect::<Option<_>>()?,
        destination: destination?,
        chown: chown?,
        chmod: chmod?,
        // The one flag without variables.
        exclude: flags.exclude.iter().map(|word| word.text.clone()).collect(),
    })
}

impl Words {
    fn chmod(&self, flags: &CopyFlags, report: &mut Report) -> Option<Option<Chmod>> {
        if self.chmod.is_empty() {
            return Some(None);
        }
        let span = flags.chmod.as_ref().map_or(Span::default(), |word| word.span);
        report.take(span, read_chmod(&self.chmod)).map(Some)
    }

    /// `COPY --chown=1 a b /c # buildkit`, with the flags BuildKit mentions.
    fn history(&self, instruction: &str, parents: bool) -> String {
        let mut words = vec![instruction.to_owned()];
        if parents {
            words.push("--parents".to_owned());
        }
        for (flag, value) in [("chown", &self.chown), ("chmod", &self.chmod)] {
            if !value.is_empty() {
                words.push(format!("--{flag}={value}"));
            }
        }
        words.extend(self.paths.iter().cloned());
        words.extend(self.inline.iter().map(|(name, _)| format!("<<{name}")));
        words.push(self.destination.clone());
        format!("{} # buildkit", words.join(" "))
    }

    fn into_op(
        self,
        from: CopyFrom,
        flags: &CopyFlags,
        chmod: Option<Chmod>,
        add: Option<AddOptions>,
        directory: &str,
    ) -> CopyOp {
        let read = |path: String| match add {
            Some(_) => classify(&path),
            None => CopySource::Path(path),
        };
        let inline = self.inline.into_iter().map(|(name, content)| CopySource::Inline { name, content });
        CopyOp {
            from,
            sources: self.paths.into_iter().map(read).chain(inline).collect(),
            destination: path::destination(directory, &self.destination),
            chown: Some(self.chown).filter(|chown| !chown.is_empty()),
            chmod,
            link: flags.link,
            parents: flags.parents,
            exclude: self.exclude,
            add,
        }
    }
}

/// What a source of ADD is, by its spelling alone.
fn classify(source: &str) -> CopySource {
    let lower = source.to_ascii_lowercase();
    let web = lower.starts_with("http://") || lower.starts_with("https://");
    // The path of a web address ends at its query or fragment.
    let path = source.split(['?', '#']).next().unwrap_or(source);
    if lower.starts_with("git://")
        || lower.starts_with("ssh://")
        || web && path.ends_with(".git")
        || is_scp(source)
    {
        CopySource::Git(source.to_owned())
    } else if web {
        CopySource::Http(source.to_owned())
    } else {
        CopySource::Path(source.to_owned())
    }
}

/// `user@host:path`, git's short spelling.
fn is_scp(source: &str) -> bool {
    let plain = |text: &str, extra: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    source
        .split_once('@')
        .and_then(|(user, rest)| Some((user, rest.split_once(':')?.0)))
        .is_some_and(|(user, host)| plain(user, b"-_") && plain(host, b"-."))
}

fn check_checksum(checksum: &str, sources: &[String]) -> Result<(), String> {
    let [source] = sources else {
        return Err("`--checksum` is for a single source".to_owned());
    };
    let (digest, what) = match classify(source) {
        CopySource::Http(_) => {
            let hex = checksum.split_once(':').and_then(|(algorithm, hex)| {
                let length = match algorithm {
                    "sha256" => 64,
                    "sha384" => 96,
                    "sha512" => 128,
                    _ => return None,
                };
                (hex.len() == length).then_some(hex)
            });
            (hex, "`sha256:` and 64 hex digits")
        }
        CopySource::Git(_) => (Some(checksum).filter(|hex| (7..=64).contains(&hex.len())), "a commit"),
        CopySource::Path(_) | CopySource::Inline { .. } => {
            return Err(
                "`--checksum` is for URLs and git repositories, not for files of the context".to_owned()
            );
        }
    };
    let is_hex = |hex: &str| hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match digest.filter(|hex| is_hex(hex)) {
        Some(_) => Ok(()),
        None => Err(format!("`--checksum={checksum}`: expected {what}")),
    }
}

fn read_chmod(text: &str) -> Result<Chmod, String> {
    let wrong =
        || format!("`--chmod={text}` is neither octal, 0 to 07777, nor symbolic such as `u=rwX,go=rX`");
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?;
        return if mode <= 0o7777 { Ok(Chmod::Octal(mode)) } else { Err(wrong()) };
    }
    let sound = text.split(',').all(is_symbolic_clause);
    if sound { Ok(Chmod::Symbolic(text.to_owned())) } else { Err(wrong()) }
}

/// `[ugoa]*` and then one or more of `+-=` with permissions or classes, or nothing.
fn is_symbolic_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    actions.starts_with(['+', '-', '=']) && actions.chars().all(|c| "+-=rwxXstugo".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chmod_is_octal_or_symbolic() {
        let check =
            |text: &str, expected: Option<Chmod>| assert_eq!(read_chmod(text).ok(), expected, "{text}");
        check("755", Some(Chmod::Octal(0o755)));
        check("04755", Some(Chmod::Octal(0o4755)));
        check("0", Some(Chmod::Octal(0)));
        for text in ["u=rwX,go=rX", "+x", "a+x", "go-w", "u+s", "g=u", "u=rw+x", "o=", "+t", "u=ug", "u+"] {
            check(text, Some(Chmod::Symbolic(text.to_owned())));
        }
        for text in ["10000", "8", "789", "rwx", "u", "u=rq", "z+x", ",u=r", "u=r,", "-1"] {
            check(text, None);
        }
    }

    #[test]
    fn sources_are_told_apart() {
        let check = |text: &str, expected: fn(String) -> CopySource| {
            assert_eq!(classify(text), expected(text.to_owned()), "{text}");
        };
        check("https://x.io/a.tar.gz", CopySource::Http);
        check("HTTP://x.io/a", CopySource::Http);
        check("https://x.io/a.git", CopySource::Git);
        check("https://x.io/a.git#main:dir", CopySource::Git);
        check("https://x.io/a.git?ref=v1", CopySource::Git);
        check("https://x.io/?x=a.git", CopySource::Http);
        check("git://x.io/a", CopySource::Git);
        check("ssh://git@x.io/a", CopySource::Git);
        check("git@x.io:team/a.git", CopySource::Git);
        check("a@b", CopySource::Path);
        check("src/http://x", CopySource::Path);
        check("a.git", CopySource::Path);
        check("scope/@name:x", CopySource::Path);
    }
}
