//! What flags put around a RUN: agents, hosts, limits, the network.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::request::keep;
use crate::plan::Network;
use crate::sandbox::Ulimit;
use crate::ssh::AgentSource;

/// `default|ID[=SOCKET|KEY[,KEY]]`; without a path it is the agent of `SSH_AUTH_SOCK`.
pub(super) fn agents(
    specs: &[String],
    environment: &BTreeMap<String, String>,
    wrong: &mut Vec<String>,
) -> BTreeMap<String, AgentSource> {
    let mut found = BTreeMap::new();
    for spec in specs {
        let Some((id, source)) = keep(agent(spec, environment), wrong) else { continue };
        if found.insert(id.clone(), source).is_some() {
            wrong.push(format!("--ssh `{id}` is given twice"));
        }
    }
    found
}

fn agent(spec: &str, environment: &BTreeMap<String, String>) -> Result<(String, AgentSource), String> {
    let (id, paths) = spec.split_once('=').unwrap_or((spec, ""));
    let id = if id.is_empty() { "default" } else { id };
    let mut paths: Vec<PathBuf> =
        paths.split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if paths.is_empty() {
        let socket = environment.get("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
        let missing = || {
            format!(
                "--ssh `{spec}`: there is no agent, SSH_AUTH_SOCK is not set; start one (`eval $(ssh-agent)`, \
                 `ssh-add`), or give --ssh {id}=SOCKET or --ssh {id}=KEYFILE"
            )
        };
        paths.push(socket.ok_or_else(missing)?.into());
    }
    Ok((id.to_owned(), AgentSource::Paths(paths)))
}

/// `HOST:IP` or `HOST=IP`; an IPv6 address may stand in brackets.
pub(super) fn extra_host(text: &str) -> Result<(String, String), String> {
    let Some((host, address)) = text.split_once(['=', ':']).filter(|(host, _)| !host.is_empty()) else {
        return Err(format!("--add-host `{text}` is not of the form HOST:IP"));
    };
    if address == "host-gateway" {
        return Err(format!("--add-host `{text}`: RUN shares this machine's network; use HOST:127.0.0.1"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<IpAddr>() {
        // BuildKit writes names in lower case.
        Ok(address) => Ok((host.to_lowercase(), address.to_string())),
        Err(_not_an_address) => Err(format!("--add-host `{text}`: `{address}` is not an IP address")),
    }
}

/// Docker's sizes: `64m`, `1gb`, bytes without a unit.
pub(super) fn shm_size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => Some(1_u64),
        "k" => Some(1 << 10),
        "m" => Some(1 << 20),
        "g" => Some(1 << 30),
        _ => None,
    };
    let size = digits.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    let wrong = || format!("--shm-size `{text}` is no size (64m, 1g)");
    size.filter(|size| *size > 0).ok_or_else(wrong)
}

pub(super) fn network(name: &str) -> Result<Network, String> {
    match name {
        "default" => Ok(Network::Default),
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        other => Err(format!("--network `{other}` is not supported (default, host, none)")),
    }
}

/// Docker's limits: `nofile=1024:4096`.
pub(super) fn ulimit(text: &str) -> Result<Ulimit, String> {
    text.parse().map_err(|reason| format!("--ulimit `{text}`: {reason}"))
}
