//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, nothing else.
//!
//! A pattern is a row of pieces with stars between them. Putting every piece
//! at the first place it fits decides whether there is a match at all, so
//! nothing here backtracks.

use super::WordError;

/// Longer ones would make matching slow enough to notice.
const LENGTH_LIMIT: usize = 4096;

/// One character of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Is(char),
    /// `?`: any but a newline.
    Any,
}

impl Symbol {
    fn matches(self, character: char) -> bool {
        match self {
            Self::Is(wanted) => character == wanted,
            Self::Any => character != '\n',
        }
    }
}

/// A pattern, cut at its stars: `a*b` is `[a] [b]`, `*` is `[] []`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Vec<Symbol>>,
}

impl Pattern {
    /// Reads a pattern. `\` makes `*`, `?` and `\` ordinary; `\}` and `\/`
    /// are `}` and `/`, which could not be written otherwise.
    pub(super) fn parse(text: &str) -> Result<Self, WordError> {
        let wrong = |reason| WordError::Pattern { pattern: text.chars().take(80).collect(), reason };
        if text.len() > LENGTH_LIMIT {
            return Err(wrong("is longer than 4096 bytes"));
        }
        let mut pieces = vec![Vec::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let symbol = match character {
                '*' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '?' => Symbol::Any,
                '\\' => match characters.next() {
                    Some(hidden @ ('*' | '?' | '\\' | '}' | '/')) => Symbol::Is(hidden),
                    _ => return Err(wrong("`\\` may only stand before `*`, `?`, `\\`, `}` and `/`")),
                },
                _ => Symbol::Is(character),
            };
            if let Some(piece) = pieces.last_mut() {
                piece.push(symbol);
            }
        }
        Ok(Self { pieces })
    }

    /// The value without its shortest or longest matching beginning.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        match self.match_at(&value, 0, longest) {
            Match::Ends(end) => value[end..].iter().collect(),
            _ => value.iter().collect(),
        }
    }

    /// The value without its shortest or longest matching end: the same, with
    /// everything turned round.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let turned = Self {
            pieces: self.pieces.iter().rev().map(|piece| piece.iter().rev().copied().collect()).collect(),
        };
        let value: String = value.chars().rev().collect();
        turned.without_prefix(&value, longest).chars().rev().collect()
    }

    /// The value with its first or every match replaced; `None` when the
    /// result would be larger than `limit` bytes.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        every: bool,
        limit: usize,
    ) -> Option<String> {
        let value: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut copied = 0;
        let mut search = 0;
        let mut last_end = None;
        while let Some((start, end)) = self.find(&value, search) {
            result.extend(&value[copied..start]);
            copied = end.max(start);
            // An empty match right behind another match is not one (as in Go).
            if start != end || last_end != Some(start) {
                result.push_str(replacement);
            }
            last_end = Some(end);
            search = if start == end { end + 1 } else { end };
            if result.len() > limit {
                return None;
            }
            if !every || search > value.len() {
                break;
            }
        }
        result.extend(&value[copied..]);
        (result.len() <= limit).then_some(result)
    }

    /// The first match from a place on, as long as it can be.
    fn find(&self, value: &[char], from: usize) -> Option<(usize, usize)> {
        let mut start = from;
        while start <= value.len() {
            match self.match_at(value, start, true) {
                Match::Ends(end) => return Some((start, end)),
                Match::NotHere => start += 1,
                // What follows the first star is nowhere on this line: no
                // later start on the line can do better.
                Match::NotOnThisLine => start = line_end(value, start) + 1,
            }
        }
        None
    }

    fn match_at(&self, value: &[char], start: usize, longest: bool) -> Match {
        let (first, rest) = match self.pieces.split_first() {
            Some(split) => split,
            None => return Match::Ends(start),
        };
        if !fits(first, value, start) {
            return Match::NotHere;
        }
        let mut end = start + first.len();
        for (index, piece) in rest.iter().enumerate() {
            let reach = line_end(value, end);
            let mut places = end..=reach;
            let found = if longest && index + 1 == rest.len() {
                places.rfind(|place| fits(piece, value, *place))
            } else {
                places.find(|place| fits(piece, value, *place))
            };
            match found {
                Some(place) => end = place + piece.len(),
                None => return Match::NotOnThisLine,
            }
        }
        Match::Ends(end)
    }
}

/// What became of a try at one place.
enum Match {
    Ends(usize),
    NotHere,
    NotOnThisLine,
}

fn fits(piece: &[Symbol], value: &[char], place: usize) -> bool {
    value
        .get(place..place + piece.len())
        .is_some_and(|part| piece.iter().zip(part).all(|(symbol, character)| symbol.matches(*character)))
}

/// The next newline, or the end: no star reaches further.
fn line_end(value: &[char], from: usize) -> usize {
    value.iter().skip(from).position(|c| *c == '\n').map_or(value.len(), |distance| from + distance)
}
