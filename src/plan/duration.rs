//! Durations as Go writes them (`1h30m`, `500ms`): what HEALTHCHECK and the history speak.

/// Nanoseconds of `text`; a sign, and decimal numbers each with a unit.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a duration such as `30s` or `1m30s`");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        total += nanoseconds(number, unit).ok_or_else(wrong)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| wrong())
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

fn nanoseconds(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Beyond a nanosecond of an hour nothing counts.
    let fraction = &fraction[..fraction.len().min(15)];
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole * unit + part * unit / scale)
}

/// The shortest text Go would print: `1m30s`, `1.5s`, `0s`.
pub(super) fn format(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let (unit, scale) = match total {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => return format!("{sign}{}", clock(total)),
    };
    format!("{sign}{}{unit}", decimal(total, scale))
}

fn clock(total: u64) -> String {
    let second = 1_000_000_000;
    let (minutes, rest) = (total / (60 * second), total % (60 * second));
    let seconds = format!("{}s", decimal(rest, second));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

fn decimal(value: u64, scale: u64) -> String {
    let width = scale.ilog10() as usize;
    let fraction = format!("{:0width$}", value % scale);
    match fraction.trim_end_matches('0') {
        "" => (value / scale).to_string(),
        fraction => format!("{}.{fraction}", value / scale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_like_go() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(parse(text).ok().map(format).as_deref(), expected, "{text}");
        };
        check("30s", Some("30s"));
        check("90s", Some("1m30s"));
        check("1h", Some("1h0m0s"));
        check("1.5s", Some("1.5s"));
        check("1500us", Some("1.5ms"));
        check("12ns", Some("12ns"));
        check("0", Some("0s"));
        check("-1m", Some("-1m0s"));
        check(".5h", Some("30m0s"));
        check("1h2m3.004s", Some("1h2m3.004s"));
        for text in ["", "5", "s", "1x", "1 s", ".s", "1.2.3s", "9999999999h", "-", "1sé"] {
            check(text, None);
        }
    }
}
