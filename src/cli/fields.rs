//! `key=value,"key=va,lue"`: the comma lists that --secret, --output and
//! --attest take, read as Docker reads them (one CSV record, RFC 4180 quotes).

/// The fields of `spec` in order. A field without `=` has the value `None`.
///
/// # Errors
/// When a quote is not closed or text follows a closing quote.
pub(super) fn fields(spec: &str) -> Result<Vec<(String, Option<String>)>, String> {
    Ok(record(spec)?
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
            None => (field.trim().to_owned(), None),
        })
        .collect())
}

fn record(spec: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = spec;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted, spec)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        found.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(found),
        }
    }
}

/// Text up to the closing quote, `""` meaning one, and what follows.
fn quoted_field<'a>(text: &'a str, spec: &str) -> Result<(String, &'a str), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err(format!("`{spec}` has a quote that is not closed"));
        };
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => return Err(format!("`{spec}` has text after a closing quote")),
        }
    }
}

/// `true`, `1` and the like; a bare key means true.
///
/// # Errors
/// When `value` is no truth value.
pub(super) fn truth(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("1" | "t" | "true") => Ok(true),
        Some("0" | "f" | "false") => Ok(false),
        Some(other) => Err(format!("`{key}={other}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, expected: &[(&str, Option<&str>)]) {
        let found = fields(spec).unwrap();
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(found, expected, "{spec}");
    }

    #[test]
    fn splits_as_docker_does() {
        check("id=a,src=b", &[("id", Some("a")), ("src", Some("b"))]);
        check("ID=a,push", &[("id", Some("a")), ("push", None)]);
        check(r#"id=a,"src=b,c""#, &[("id", Some("a")), ("src", Some("b,c"))]);
        check(r#""a=""x""""#, &[("a", Some(r#""x""#))]);
        check("a=b=c", &[("a", Some("b=c"))]);
    }

    #[test]
    fn refuses_broken_quotes() {
        assert!(fields(r#""a=b"#).is_err());
        assert!(fields(r#""a"b"#).is_err());
    }
}
