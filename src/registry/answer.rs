//! Reading what a registry says when it refuses: the `errors` list of the OCI
//! distribution spec ("Error Codes"), and what token servers say instead.

use serde_json::Value;

use super::Reply;
use crate::net::Response;

/// An error body longer than this is a web page.
const LIMIT: usize = 64 * 1024;

/// A message longer than this is cut.
const MESSAGE: usize = 300;

/// What the registry said. A body that cannot be read is as good as none.
pub(super) async fn read(mut response: Response) -> Box<Reply> {
    let body = response.bytes(LIMIT).await.ok().flatten().unwrap_or_default();
    let (code, message) = parse(&body);
    Box::new(Reply {
        method: response.method().to_string(),
        url: response.log_url(),
        status: response.status().as_u16(),
        code,
        message,
    })
}

fn parse(body: &[u8]) -> (String, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Default::default() };
    let text = |value: &Value| value.as_str().map(clean).unwrap_or_default();
    if let Some(first) = value["errors"].get(0) {
        return (text(&first["code"]), text(&first["message"]));
    }
    let said = ["error_description", "details", "message"].iter().map(|key| text(&value[*key]));
    (text(&value["error"]), said.into_iter().find(|text| !text.is_empty()).unwrap_or_default())
}

/// The text is hostile: no control characters, no novels.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes() {
        for (body, code, message) in [
            (r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J"}]}"#, "DENIED", "no [2J"),
            (r#"{"errors":[]}"#, "", ""),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, "invalid_grant", "expired"),
            (r#"{"details":"incorrect username or password"}"#, "", "incorrect username or password"),
            ("<html>", "", ""),
        ] {
            assert_eq!(parse(body.as_bytes()), (code.to_owned(), message.to_owned()), "{body}");
        }
    }
}
