//! What is behind the doors: a backend for each route, one for the certificate authority's question, and one for nothing.

use super::super::certificates;
use super::super::format::Refused;
use super::super::format::haproxy::{Config, Word, format, raw, text};
use super::private_health_path;
use crate::model::{RouteName, Slot};
use crate::spec::{Networks, Route, Service, Spec};

/// Where requests go that no route gets. No route can have such a name.
pub(super) const NOWHERE: &str = "bundle:nowhere";
/// Where the ACME client listens while it proves that a name is ours.
pub(super) const ACME: &str = "bundle:acme";

pub(super) fn nowhere(config: &mut Config) -> Result<(), Refused> {
    config.section(&[raw("backend"), text(NOWHERE)])?.own("http-request return status 404");
    Ok(())
}

/// Nobody listens there most of the time, so it is not checked.
pub(super) fn acme(config: &mut Config) -> Result<(), Refused> {
    config
        .section(&[raw("backend"), text(ACME)])?
        .own("retries 0")
        .line(&[raw("server client"), text(certificates::LISTEN)])
        .map(drop)
}

/// A route's backend with its two servers. The one of the other slot starts in maintenance.
pub(super) fn route(
    config: &mut Config,
    spec: &Spec,
    name: &RouteName,
    route: &Route,
    service: &Service,
    active: Slot,
) -> Result<(), Refused> {
    let (path, query) = health(&route.health)?;
    let private = text(&private_health_path(name));
    config
        .section(&[raw("backend"), text(name)])?
        .fixed(&["balance roundrobin", "http-response del-header X-Bundle-Slot"])
        .line(&[raw("http-request set-var(txn.private) bool(true) if { path"), private, raw("}")])?;
    let asked = || raw("if { var(txn.private) -m bool }");
    if let Some(query) = query {
        config.line(&[raw("http-request set-query"), format(query), asked()])?;
    }
    config
        .line(&[raw("http-request set-path"), format(path), asked()])?
        .fixed(&[
            "http-response set-header X-Bundle-Slot %s if { var(txn.private) -m bool }",
            "option httpchk",
        ])
        .line(&[
            raw("http-check send meth GET uri"),
            text(&route.health),
            raw("ver HTTP/1.1 hdr Host"),
            format(&route.host),
        ])?
        .fixed(&["http-check expect status 200", "default-server check inter 1s fall 3 rise 1"]);
    for slot in Slot::BOTH {
        let address = Networks::address(spec.networks.of(slot), service.hosts.slot);
        let mut server: Vec<Word> =
            vec![raw("server"), text(&slot), text(&format!("{address}:{}", route.port))];
        if slot != active {
            server.push(raw("disabled"));
        }
        config.line(&server)?;
    }
    Ok(())
}

/// A health path with its query, if it is one that can stand in a request line.
fn health(path: &str) -> Result<(&str, Option<&str>), Refused> {
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Refused(format!("{path:?} is not a path that can be asked for")));
    }
    Ok(path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query))))
}
