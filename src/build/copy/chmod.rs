//! `--chmod`: octal, or chmod(1)'s symbolic form with `X`.

use crate::plan::Chmod;

/// The permission bits that `chmod` gives a file that has `mode`.
pub(super) fn apply(chmod: &Chmod, mode: u32, is_directory: bool) -> u32 {
    match chmod {
        Chmod::Octal(bits) => bits & 0o7777,
        Chmod::Symbolic(text) => {
            text.split(',').fold(mode, |mode, clause| apply_clause(clause.trim(), mode, is_directory))
        }
    }
}

/// The plan has checked the text; a clause without an operator changes nothing.
fn apply_clause(clause: &str, mode: u32, is_directory: bool) -> u32 {
    let Some(first) = clause.find(['+', '-', '=']) else { return mode };
    let (who, mut actions) = clause.split_at(first);
    let mut mode = mode;
    while let Some(operator) = actions.chars().next() {
        let rest = &actions[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        mode = apply_action(who_mask(who), operator, &rest[..end], mode, is_directory);
        actions = &rest[end..];
    }
    mode
}

fn apply_action(who: u32, operator: char, permissions: &str, mode: u32, is_directory: bool) -> u32 {
    let bits =
        permissions.chars().fold(0, |bits, letter| bits | letter_bits(letter, mode, is_directory)) & who;
    match operator {
        '+' => mode | bits,
        '-' => mode & !bits,
        _ => mode & !(who & 0o7777) | bits,
    }
}

/// Each class with the special bit that belongs to it; nobody named means all.
fn who_mask(who: &str) -> u32 {
    let class = |letter| match letter {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => 0o1007,
        _ => 0o7777,
    };
    if who.is_empty() { 0o7777 } else { who.chars().fold(0, |mask, letter| mask | class(letter)) }
}

fn letter_bits(letter: char, mode: u32, is_directory: bool) -> u32 {
    match letter {
        'r' => 0o444,
        'w' => 0o222,
        'x' => 0o111,
        'X' if is_directory || mode & 0o111 != 0 => 0o111,
        's' => 0o6000,
        't' => 0o1000,
        'u' => spread(mode >> 6),
        'g' => spread(mode >> 3),
        'o' => spread(mode),
        _ => 0,
    }
}

/// One class' three bits, given to all three classes.
fn spread(class: u32) -> u32 {
    (class & 7) * 0o111
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, mode: u32, is_directory: bool, expected: u32) {
        let found = apply(&Chmod::Symbolic(text.to_owned()), mode, is_directory);
        assert_eq!(found, expected, "chmod {text} on {mode:o}: {found:o}");
    }

    #[test]
    fn symbolic() {
        check("u=rwX,go=rX", 0o600, false, 0o644);
        check("u=rwX,go=rX", 0o700, false, 0o755);
        check("u=rwX,go=rX", 0o700, true, 0o755);
        check("a+x", 0o644, false, 0o755);
        check("+x", 0o644, false, 0o755);
        check("go-rwx", 0o777, false, 0o700);
        check("u+s", 0o755, false, 0o4755);
        check("g+s", 0o755, true, 0o2755);
        check("+t", 0o777, true, 0o1777);
        check("o-t", 0o1777, true, 0o777);
        check("g=u", 0o640, false, 0o660);
        check("u+rw-x", 0o100, false, 0o600);
        check("=", 0o755, false, 0);
    }

    #[test]
    fn octal_replaces_everything() {
        assert_eq!(apply(&Chmod::Octal(0o4711), 0o644, false), 0o4711);
    }
}
