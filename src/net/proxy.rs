//! Proxies from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in
//! either case (the lower one first, as curl has it).

use std::collections::BTreeMap;

use reqwest::{NoProxy, Proxy};

use super::Error;

/// The proxies the environment asks for. This machine is never behind one.
pub(super) fn from_environment(environment: &BTreeMap<String, String>) -> Result<Vec<Proxy>, Error> {
    let exempt = NoProxy::from_string(&exemptions(environment));
    let mut proxies = Vec::new();
    for (name, make) in makers() {
        let Some((variable, address)) = value(environment, name) else { continue };
        let proxy = make(address).map_err(|_| Error::Proxy { variable })?;
        proxies.push(proxy.no_proxy(exempt.clone()));
    }
    Ok(proxies)
}

type Maker = fn(&str) -> reqwest::Result<Proxy>;

/// The first proxy that claims a URL gets it, so the general one is last.
fn makers() -> [(&'static str, Maker); 3] {
    [
        ("http_proxy", |address| Proxy::http(address)),
        ("https_proxy", |address| Proxy::https(address)),
        ("all_proxy", |address| Proxy::all(address)),
    ]
}

fn exemptions(environment: &BTreeMap<String, String>) -> String {
    let own = "localhost,127.0.0.0/8,::1";
    match value(environment, "no_proxy") {
        Some((_, listed)) => format!("{listed},{own}"),
        None => own.to_owned(),
    }
}

/// The name that was found, and its value.
fn value<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<(String, &'a str)> {
    [name.to_owned(), name.to_ascii_uppercase()].into_iter().find_map(|name| {
        let value = environment.get(&name)?.trim();
        (!value.is_empty()).then_some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn reads_both_cases_and_skips_the_empty() {
        for (pairs, expected) in [
            (&[][..], 0),
            (&[("HTTP_PROXY", "http://p:3128"), ("https_proxy", "p:3128")], 2),
            (&[("HTTP_PROXY", "")], 0),
            (&[("ALL_PROXY", "http://u:p@p:3128")], 1),
        ] {
            assert_eq!(from_environment(&map(pairs)).unwrap().len(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn an_unusable_address_names_its_variable_only() {
        let error = from_environment(&map(&[("HTTPS_PROXY", "http://u:secret@[bad")])).unwrap_err();
        assert_eq!(error.to_string(), "`HTTPS_PROXY` is not a proxy address this program can use");
    }

    #[test]
    fn this_machine_is_exempt() {
        assert_eq!(exemptions(&map(&[("NO_PROXY", "a.io")])), "a.io,localhost,127.0.0.0/8,::1");
    }
}
