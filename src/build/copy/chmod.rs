//! `--chmod`: octal, or chmod(1)'s symbolic form as BSD's setmode(3) means it,
//! whose Go translation BuildKit uses: `X` asks the mode before any change, `o`
//! never has a special bit, and `a` leaves the sticky bit alone unless `t` is said.

use crate::plan::Chmod;

/// The permission bits that `chmod` gives a file that has `mode`.
pub(super) fn apply(chmod: &Chmod, mode: u32, is_directory: bool) -> u32 {
    match chmod {
        Chmod::Octal(bits) => bits & 0o7777,
        Chmod::Symbolic(text) => {
            let may_search = is_directory || mode & 0o111 != 0;
            text.split(',').fold(mode, |mode, clause| apply_clause(clause, mode, may_search))
        }
    }
}

const STICKY: u32 = 0o1000;
const ALL: u32 = 0o6777;
const OTHERS: u32 = 0o007;

/// The plan has checked the text; a clause without an operator changes nothing.
fn apply_clause(clause: &str, mode: u32, may_search: bool) -> u32 {
    let Some(first) = clause.find(['+', '-', '=']) else { return mode };
    let (who, mut actions) = clause.split_at(first);
    let mut mode = mode;
    while let Some(operator) = actions.chars().next() {
        let rest = &actions[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let action = Action { who: who_mask(who), operator, may_search };
        mode = action.apply(&rest[..end], mode);
        actions = &rest[end..];
    }
    mode
}

/// One operator with the classes it is for; no class means all, as seen by an
/// empty umask.
struct Action {
    who: u32,
    operator: char,
    may_search: bool,
}

impl Action {
    /// Letters add up until a class is to be copied, which is done at once.
    fn apply(mut self, letters: &str, mut mode: u32) -> u32 {
        let (mut bits, mut search, mut copied) = (0, false, false);
        for letter in letters.chars() {
            match letter {
                'X' => search = true,
                't' if self.has_special() => {
                    self.who |= STICKY;
                    bits |= STICKY;
                }
                's' if self.has_special() => bits |= 0o6000,
                'u' | 'g' | 'o' => {
                    mode = self.copy(letter, self.flush(bits, search, bits != 0, mode));
                    (bits, search, copied) = (0, false, true);
                }
                _ => bits |= letter_bits(letter),
            }
        }
        self.flush(bits, search, bits != 0 || self.operator == '=' && !copied, mode)
    }

    /// Set-id and sticky bits do not belong to `o`.
    fn has_special(&self) -> bool {
        self.who == 0 || self.who & !OTHERS != 0
    }

    fn flush(&self, bits: u32, search: bool, wanted: bool, mode: u32) -> u32 {
        let of_who = |bits| if self.who == 0 { bits } else { bits & self.who };
        let mode = match self.operator {
            _ if !wanted => mode,
            '+' => mode | of_who(bits),
            '-' => mode & !of_who(bits),
            _ => mode & !(if self.who == 0 { ALL } else { self.who }) | of_who(bits),
        };
        match search && self.may_search {
            true if self.operator == '-' => mode & !of_who(0o111),
            true => mode | of_who(0o111),
            false => mode,
        }
    }

    /// Gives one class' permissions to those of the action.
    fn copy(&self, class: char, mode: u32) -> u32 {
        let shift = match class {
            'u' => 6,
            'g' => 3,
            _ => 0,
        };
        let classes = if self.who == 0 { 0o777 } else { self.who & 0o777 };
        let bits = (((mode >> shift) & 7) * 0o111) & classes;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !classes | bits,
        }
    }
}

/// Each class with the special bit that belongs to it.
fn who_mask(who: &str) -> u32 {
    who.chars().fold(0, |mask, letter| {
        mask | match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => OTHERS,
            _ => ALL,
        }
    })
}

fn letter_bits(letter: char) -> u32 {
    match letter {
        'r' => 0o444,
        'w' => 0o222,
        'x' => 0o111,
        _ => 0,
    }
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
        check("o-t", 0o1777, true, 0o1777);
        check("a-x,a+X", 0o755, false, 0o755);
        check("-x+X", 0o755, false, 0o755);
        check("go=rX", 0o1777, true, 0o1755);
        check("o=s", 0o4755, false, 0o4750);
        check("=t", 0o711, true, 0o1711);
        check("=", 0o1777, true, 0o1000);
        check("u=s", 0o755, false, 0o4055);
        check("o=u,u=x", 0o755, false, 0o157);
        check("go=u-w", 0o711, true, 0o755);
        check("a=rwxs", 0o600, false, 0o6777);
        check("g=u", 0o640, false, 0o660);
        check("u+rw-x", 0o100, false, 0o600);
        check("=", 0o755, false, 0);
    }

    #[test]
    fn octal_replaces_everything() {
        assert_eq!(apply(&Chmod::Octal(0o4711), 0o644, false), 0o4711);
    }
}
