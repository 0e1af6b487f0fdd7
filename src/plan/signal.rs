//! `STOPSIGNAL`: names and numbers of Linux signals.

/// Whether `text` names a signal: a number, or a name with or without `SIG`, in any case.
pub(super) fn is_known(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return number > 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || is_realtime(name)
}

/// `RTMIN`, `RTMIN+1` to `RTMIN+15`, `RTMAX-14` to `RTMAX-1`, `RTMAX`.
fn is_realtime(name: &str) -> bool {
    let offset = |sign: &str, limit: u32| {
        name.split_once(sign)
            .and_then(|(_, text)| text.parse().ok())
            .is_some_and(|n: u32| (1..=limit).contains(&n))
    };
    match name {
        "RTMIN" | "RTMAX" => true,
        _ if name.starts_with("RTMIN+") => offset("+", 15),
        _ if name.starts_with("RTMAX-") => offset("-", 14),
        _ => false,
    }
}

const NAMES: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let check = |text: &str, expected: bool| assert_eq!(is_known(text), expected, "{text}");
        for text in ["SIGTERM", "term", "9", "RTMIN+3", "SIGRTMAX-14", "sigwinch"] {
            check(text, true);
        }
        for text in ["", "0", "-9", "SIGNOPE", "RTMIN+16", "RTMAX-0", "SIG"] {
            check(text, false);
        }
    }
}
