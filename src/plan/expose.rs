//! `EXPOSE [[ADDRESS:]HOST:]PORT[-PORT][/PROTOCOL]`.

use std::net::IpAddr;

use super::check;
use super::report::Report;
use crate::dockerfile::Span;

/// The ports of one word, `80/tcp`; `None` when it is wrong, which is said.
pub(super) fn ports(word: &str, span: Span, report: &mut Report) -> Option<Vec<String>> {
    let wrong = |reason: &str| format!("EXPOSE `{word}`: {reason}");
    let (host, container) = match word.rsplit_once(':') {
        Some((host, container)) => (Some(host), container),
        None => (None, word),
    };
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    let result = protocol_name(protocol).and_then(|protocol| Ok((protocol, port_range(range)?))).and_then(
        |(protocol, ports)| host.map_or(Ok(()), |host| check_host(host, ports)).map(|()| (protocol, ports)),
    );
    let (name, (first, last)) = report.take(span, result.map_err(|reason| wrong(&reason)))?;
    if !protocol.is_empty() && name != protocol {
        check::expose_casing(report, span, word);
    }
    if host.is_some_and(|host| !host.is_empty()) {
        check::expose_format(report, span, word);
    }
    Some((first..=last).map(|port| format!("{port}/{name}")).collect())
}

fn protocol_name(protocol: &str) -> Result<String, String> {
    match protocol.to_ascii_lowercase().as_str() {
        "" => Ok("tcp".to_owned()),
        known @ ("tcp" | "udp" | "sctp") => Ok(known.to_owned()),
        _ => Err(format!("unknown protocol `{protocol}` (there are `tcp`, `udp`, `sctp`)")),
    }
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("there is no port".to_owned());
    }
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("`{text}` is not a port (0 to 65535)")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if last < first {
        return Err(format!("the range `{text}` goes backwards"));
    }
    Ok((first, last))
}

/// Address and host port have no meaning here, but must be right, as in BuildKit.
fn check_host(host: &str, (first, last): (u16, u16)) -> Result<(), String> {
    let (address, port) = host.rsplit_once(':').unwrap_or(("", host));
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(format!("`{address}` is not an address"));
    }
    if port.is_empty() {
        return Ok(());
    }
    let (host_first, host_last) = port_range(port)?;
    if first != last && last - first != host_last - host_first {
        return Err("the two ranges differ in length".to_owned());
    }
    Ok(())
}
