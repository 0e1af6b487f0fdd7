//! The nearest known name for a mistyped one.

/// The known name a mistyped word most likely meant, compared without case:
/// one edit away for words of up to three characters, two up to six, three
/// beyond. `None` when nothing is near enough, or when the word is known as
/// it stands.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted: Vec<char> = word.to_lowercase().chars().collect();
    let allowed = match wanted.len() {
        0 => return None,
        1..=3 => 1,
        4..=6 => 2,
        // A word much longer than any name is not a misspelt one; and the
        // distance costs the product of the lengths.
        7..=64 => 3,
        _ => return None,
    };
    known
        .iter()
        .filter(|name| **name != word)
        .map(|name| (distance(&wanted, &name.to_lowercase().chars().collect::<Vec<_>>()), *name))
        .filter(|(edits, name)| *edits <= allowed && *edits < name.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from
/// one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(a != b);
            let mut best = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b {
                best = best.min(before_last[column - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(word: &str, expected: Option<&str>) {
        let known = ["FROM", "RUN", "COPY", "ENV", "ENTRYPOINT", "HEALTHCHECK", "USER", "CMD"];
        assert_eq!(nearest(word, &known), expected, "{word}");
    }

    #[test]
    fn mistyped_words_find_their_name() {
        check("FORM", Some("FROM"));
        check("runn", Some("RUN"));
        check("RNU", Some("RUN"));
        check("EN", Some("ENV"));
        check("entrypiont", Some("ENTRYPOINT"));
        check("HEALTCHEK", Some("HEALTHCHECK"));
        check("COPPY", Some("COPY"));
    }

    #[test]
    fn strange_words_find_nothing() {
        check("", None);
        check("apt-get", None);
        check("XYZ", None);
        check(&"RUN".repeat(1000), None);
    }

    #[test]
    fn another_case_is_near_but_the_word_itself_is_not() {
        check("from", Some("FROM"));
        check("FROM", None);
    }
}
