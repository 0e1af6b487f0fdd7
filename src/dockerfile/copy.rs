//! COPY and ADD: sources, inline files, destination.

use super::ast::{AddFlags, CopyFlags, CopySources, InstructionKind, Word};
use super::flags::Flags;
use super::heredoc::parse_word;
use super::instruction::{Head, Reader, words};
use super::span::Diagnostic;

/// Reads `COPY`.
pub(super) fn copy(reader: &mut Reader<'_>, head: &Head<'_>, flags: &Flags) -> Option<InstructionKind> {
    let sources = sources(reader, head)?;
    Some(InstructionKind::Copy(shared_flags(flags), flags.value("from"), sources))
}

/// Reads `ADD`.
pub(super) fn add(reader: &mut Reader<'_>, head: &Head<'_>, flags: &Flags) -> Option<InstructionKind> {
    let sources = sources(reader, head)?;
    let own = AddFlags {
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir"),
        unpack: flags.switch("unpack"),
    };
    Some(InstructionKind::Add(shared_flags(flags), own, sources))
}

fn shared_flags(flags: &Flags) -> CopyFlags {
    CopyFlags {
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or_default(),
        parents: flags.switch("parents").unwrap_or_default(),
        exclude: flags.list("exclude"),
    }
}

fn sources(reader: &mut Reader<'_>, head: &Head<'_>) -> Option<CopySources> {
    let json = reader.strings(head.arguments).ok()?;
    let plain = json.is_none();
    let mut given = json.unwrap_or_else(|| words(head.arguments));
    let destination = given.pop();
    let Some(destination) = destination.filter(|_| !given.is_empty()) else {
        let message = format!("`{}` needs a source and a destination", head.name);
        reader.report(Diagnostic::error(head.arguments.span(), message));
        return None;
    };
    if !plain {
        return Some(CopySources { paths: given, heredocs: Vec::new(), destination });
    }
    if parse_word(&destination.text).is_some() {
        let message = format!("`{}` cannot write to a heredoc", head.name);
        let hint = "the destination comes last: `COPY <<EOF /path`";
        reader.report(Diagnostic::error(destination.span, message).with_hint(hint));
        return None;
    }
    let (inline, paths): (Vec<Word>, Vec<Word>) =
        given.into_iter().partition(|word| parse_word(&word.text).is_some());
    if inline.len() != head.bodies.len() {
        let message =
            format!("in `{}` the name of a heredoc must not hold blanks, nor follow one", head.name);
        reader.report(Diagnostic::error(head.arguments.span(), message).with_hint("write `<<EOF`"));
        return None;
    }
    Some(CopySources { paths, heredocs: head.heredocs(), destination })
}
