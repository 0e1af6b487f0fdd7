//! Which hosts are this machine, which addresses are private, and what may be
//! reached from where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Whether `host` (`name`, `name:port`, `[address]:port`) is this machine by
/// its name: `localhost`, `127.0.0.0/8` or `::1`.
pub fn is_loopback(host: &str) -> bool {
    Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback_url(&url))
}

pub(super) fn is_loopback_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_local_name(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// `host[:port]` of a URL, the port left out where it is the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether a declared host names the URL's: `name` for any port, `name:port` for one.
pub(super) fn declared(list: &[String], url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    list.iter().any(|entry| entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(&with_port))
}

/// Whether a server may send us from `origin` to `target`: not to an address
/// inside the network unless the user named that address. A registry could
/// otherwise make us ask the cloud's metadata service for it.
pub(super) fn may_follow(origin: &Url, target: &Url) -> bool {
    match place(target) {
        None => true,
        Some(inside) => place(origin) == Some(inside),
    }
}

/// The private address a URL spells out; all spellings of this machine are one.
fn place(url: &Url) -> Option<IpAddr> {
    let address = match url.host()? {
        Host::Domain(name) if is_local_name(name) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Host::Domain(_) => return None,
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(Ipv6Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Host::Ipv6(address) => IpAddr::V6(address).to_canonical(),
    };
    is_private(address).then_some(address)
}

fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            // 100.64.0.0/10 is RFC 6598: some clouds serve metadata there.
            let carrier_grade = a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64;
            a.is_private() || a.is_loopback() || a.is_link_local() || a.is_unspecified() || carrier_grade
        }
        IpAddr::V6(a) => {
            a.is_loopback() || a.is_unspecified() || a.is_unique_local() || a.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:5000", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.1", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("128.0.0.1", false),
            ("127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn addresses_inside_are_only_reached_when_named() {
        for (origin, target, expected) in [
            ("https://r.io/", "https://auth.r.io/token", true),
            ("https://r.io/", "https://8.8.8.8/token", true),
            ("https://r.io/", "https://169.254.169.254/latest", false),
            ("https://r.io/", "https://10.0.0.1/", false),
            ("https://r.io/", "https://[fd00::1]/", false),
            ("https://r.io/", "https://[::ffff:10.0.0.1]/", false),
            ("https://r.io/", "http://localhost/", false),
            ("https://r.io/", "http://2130706433/", false),
            ("https://10.0.0.1:5000/", "https://10.0.0.1:5001/token", true),
            ("https://10.0.0.1/", "https://10.0.0.2/", false),
            ("http://localhost:5000/", "http://127.0.0.1:5001/token", true),
        ] {
            let (from, to) = (Url::parse(origin).unwrap(), Url::parse(target).unwrap());
            assert_eq!(may_follow(&from, &to), expected, "{origin} → {target}");
        }
    }

    #[test]
    fn declared_hosts() {
        let list = ["r.io:5000".to_owned(), "Plain.example".to_owned()];
        for (url, expected) in [
            ("http://r.io:5000/", true),
            ("http://r.io/", false),
            ("http://plain.example/", true),
            ("https://plain.example:8443/", true),
        ] {
            assert_eq!(declared(&list, &Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
