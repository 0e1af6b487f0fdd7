//! The values of mount options, and the record they come in.

pub(super) fn choose<T: Copy>(what: &str, value: &str, known: &[(&str, T)]) -> Result<T, String> {
    let lower = value.to_ascii_lowercase();
    if let Some((_, found)) = known.iter().find(|(name, _)| *name == lower) {
        return Ok(*found);
    }
    let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
    Err(format!("`{value}` is not a {what} (there are {})", names.join(", ")))
}

pub(super) fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("mount option `{key}={value}` must be true or false")),
    }
}

pub(super) fn number(key: &str, value: &str, radix: u32) -> Result<u32, String> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = u32::from_str_radix(value, radix).ok().filter(|_| digits);
    let kind = if radix == 8 { "an octal number" } else { "a number" };
    parsed.ok_or_else(|| format!("mount option `{key}={value}` must be {kind}"))
}

/// `64m`, `1.5g`, `512 KiB`: binary multiples, as Docker reads memory sizes.
pub(super) fn size(value: &str) -> Result<u64, String> {
    let wrong = || format!("mount option `size={value}` must be a size such as `64m`");
    let end = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let amount: f64 = value[..end].parse().map_err(|_| wrong())?;
    let unit = value[end..].trim_start().to_ascii_lowercase();
    let letters = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = match letters {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(wrong()),
    };
    let bytes = amount * (1_u64 << shift) as f64;
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Fields of one CSV record (RFC 4180): a field in double quotes may hold commas.
pub(super) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if !field.starts_with('"') && field.contains('"') && !rest.starts_with('"') {
            return Err("a quote inside an option (quote the whole `\"key=value\"`)");
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text after a closing quote"),
        }
    }
}

fn quoted_field(mut rest: &str) -> Result<(String, &str), &'static str> {
    let mut field = String::new();
    loop {
        let end = rest.find('"').ok_or("a quote is never closed")?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_be_quoted() {
        let check = |text: &str, expected: Result<&[&str], ()>| {
            let fields = split(text).map_err(drop);
            assert_eq!(fields, expected.map(|f| f.iter().map(|f| f.to_string()).collect()), "{text}");
        };
        check("type=bind,target=/a", Ok(&["type=bind", "target=/a"]));
        check(r#""target=/a,b",ro"#, Ok(&["target=/a,b", "ro"]));
        check(r#""a""b""#, Ok(&[r#"a"b"#]));
        check(r#"target="/a""#, Err(()));
        check(r#""target=/a"#, Err(()));
        check(r#""a"b"#, Err(()));
    }

    #[test]
    fn sizes_are_binary() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(size(text).ok(), expected, "{text}");
        check("64m", Some(64 << 20));
        check("1.5g", Some(3 << 29));
        check("512 KiB", Some(512 << 10));
        check("10", Some(10));
        check("7b", Some(7));
        check("-1", None);
        check("1x", None);
        check("", None);
        check("99999999999p", None);
    }
}
