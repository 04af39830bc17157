//! `[proxy]` → `haproxy/haproxy.cfg`, in a rendering for each slot.
//!
//! A release never reloads it: slots are switched through the admin socket. The two renderings differ in which server
//! starts disabled, so that a reload or a boot can only ever send traffic to the slot whose view is current.
//!
//! Valid for HAProxy 2.6 to 3.0. No regular expression anywhere: PCRE's compiler needs memory that is writable and
//! executable, which the unit forbids.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Refused;
use super::format::haproxy::{Config, Word, format, raw, text};
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::model::{OnChange, RouteName, Slot};
use crate::spec::{Networks, Route, Service, Spec};

/// The way in: HAProxy on 80 and 443, which forwards to the current slot. Every key has a default.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// The lowest version of TLS.
    min_tls: MinTls,
    /// How many requests an address may make in a minute; in IPv6 a /64.
    requests_per_minute: u32,
    /// Networks that are not counted.
    #[schemars(with = "Vec<String>", example = ["149.154.160.0/20"])]
    exempt: Vec<IpNet>,
    /// The route that the public gets; needed if there are several.
    #[schemars(example = &"backend")]
    default: Option<RouteName>,
}

/// The lowest version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
enum MinTls {
    /// For clients that are not known to speak 1.3.
    #[serde(rename = "1.2")]
    V12,
    #[default]
    #[serde(rename = "1.3")]
    V13,
}

impl Default for Proxy {
    fn default() -> Self {
        Self { min_tls: MinTls::V13, requests_per_minute: 1000, exempt: Vec::new(), default: None }
    }
}

/// The file's place in a view.
pub const PATH: &str = "haproxy/haproxy.cfg";

/// The directory of the certificates: PEM files, each with its key. Outside every generation.
pub const CERTIFICATES: &str = "/var/lib/bundle/certs/";

/// The admin socket, through which slots are switched.
pub const ADMIN_SOCKET: &str = "/run/bundle-haproxy/admin.sock";

/// The path at which the machine itself asks for a route's health, through the door.
pub fn private_health_path(route: &RouteName) -> String {
    format!("/.bundle/{route}/health")
}

impl Section for Proxy {
    const KIND: &'static str = "proxy";
    const TABLE: Option<&'static str> = Some("proxy");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Proxy {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        let names = || spec.routes.keys().map(RouteName::as_str).collect::<Vec<_>>().join(", ");
        match &self.default {
            Some(name) if !spec.routes.contains_key(name) => {
                let message = format!("there is no route `{name}`");
                problems.push(literal::problem(
                    "default",
                    message,
                    Some(format!("the routes are: {}", names())),
                ));
            }
            None if spec.routes.len() > 1 => {
                let hint = format!("set `default` in `[proxy]` to one of: {}", names());
                let message = "there are several routes, and none is the public's".to_owned();
                problems.push(Problem { at: Vec::new(), message, hint: Some(hint) });
            }
            _ => {}
        }
        if self.requests_per_minute == 0 {
            let message = "with 0 requests a minute nobody gets an answer".to_owned();
            problems.push(literal::problem("requests_per_minute", message, None));
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if spec.routes.is_empty() {
            return Ok(());
        }
        for slot in Slot::BOTH {
            let content = self.config(spec, slot)?;
            let entry = Entry::text(Self::KIND, literal::path(PATH)?, content)
                .only(slot)
                .check(&["haproxy", "-c", "-f", "{}"])
                .on_change(OnChange::Reload(literal::unit("bundle-haproxy.service")?));
            tree.insert(entry)?;
        }
        Ok(())
    }
}

impl Proxy {
    fn config(&self, spec: &Spec, active: Slot) -> Result<String, RenderError> {
        let mut services: BTreeMap<&RouteName, &Service> = BTreeMap::new();
        for (name, route) in &spec.routes {
            services.insert(name, literal::service(spec, Self::KIND, &route.service)?);
        }
        self.write(spec, &services, active).map_err(|refused| refused.at(PATH))
    }

    fn write(
        &self,
        spec: &Spec,
        services: &BTreeMap<&RouteName, &Service>,
        active: Slot,
    ) -> Result<String, Refused> {
        let mut config = Config::default();
        self.global(&mut config)?;
        config.section(&[raw("defaults")])?.fixed(DEFAULTS);

        // Nothing is served in the clear. RFC 9110, section 15.4.9: with 308 a POST stays a POST.
        let prefix = format(&format!("https://{}", spec.domain));
        config.section(&[raw("frontend http")])?.fixed(&["bind :80", "bind [::]:80 v6only"]).line(&[
            raw("http-request redirect prefix"),
            prefix,
            raw("code 308"),
        ])?;

        config.section(&[raw("frontend https")])?;
        config
            .line(&[raw("bind :443 ssl crt"), text(CERTIFICATES), raw("alpn h2,http/1.1")])?
            .line(&[raw("bind [::]:443 v6only ssl crt"), text(CERTIFICATES), raw("alpn h2,http/1.1")])?
            .fixed(&[HSTS]);
        Self::private(&mut config, spec)?;
        self.limit(&mut config)?;
        config.fixed(HYGIENE);
        Self::use_private(&mut config, spec)?;
        if let Some(name) = self.default.as_ref().or_else(|| spec.routes.keys().next()) {
            config.line(&[raw("default_backend"), text(name)])?;
        }

        for (name, route) in &spec.routes {
            if let Some(service) = services.get(name) {
                backend(&mut config, spec, name, route, service, active)?;
            }
        }
        Ok(config.finish())
    }

    /// Mozilla's server-side TLS guidelines 6.0: the ciphers of "intermediate" where TLS 1.2 is allowed, and of "modern"
    /// otherwise.
    fn global(&self, config: &mut Config) -> Result<(), Refused> {
        config
            .section(&[raw("global")])?
            .fixed(&["log stdout format raw local0 info", "maxconn 8000"])
            .line(&[
                raw("stats socket"),
                text(ADMIN_SOCKET),
                raw("mode 660 level admin expose-fd listeners"),
            ])?
            .fixed(&["hard-stop-after 120s"]);
        if self.min_tls == MinTls::V12 {
            config.fixed(&[
                "ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
            ]);
        }
        config.fixed(&[
            "ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
            "ssl-default-bind-curves X25519:prime256v1:secp384r1",
        ]);
        let floor = match self.min_tls {
            MinTls::V12 => "TLSv1.2",
            MinTls::V13 => "TLSv1.3",
        };
        let options = "ssl-default-bind-options prefer-client-ciphers no-tls-tickets ssl-min-ver";
        config.line(&[raw(options), raw(floor)]).map(drop)
    }

    /// Exactly so many requests in any minute. The counter stands in the frontend, so a switch does not reset it.
    fn limit(&self, config: &mut Config) -> Result<(), Refused> {
        config.fixed(&[
            "stick-table type ipv6 size 100k expire 2m store http_req_rate(60s)",
            "acl exempt src 127.0.0.0/8 ::1",
        ]);
        for net in &self.exempt {
            config.line(&[raw("acl exempt src"), text(net)])?;
        }
        let limit = text(&self.requests_per_minute);
        config
            .fixed(&["http-request track-sc0 src,ipmask(32,64) unless exempt"])
            .line(&[
                raw("http-request deny deny_status 429 hdr Retry-After 60 if !exempt { sc_http_req_rate(0) gt"),
                limit,
                raw("}"),
            ])
            .map(drop)
    }

    /// Who asks on the machine itself reaches each route's health; for everybody else, and below any other name, the
    /// path does not exist.
    fn private(config: &mut Config, spec: &Spec) -> Result<(), Refused> {
        config.fixed(&["acl here src 127.0.0.0/8 ::1", "acl private path_beg /.bundle/"]);
        for name in spec.routes.keys() {
            config.line(&[raw("acl health path"), text(&private_health_path(name))])?;
        }
        config.fixed(&["http-request return status 404 if private !here || private !health"]);
        Ok(())
    }

    /// Sends each private path to its backend.
    fn use_private(config: &mut Config, spec: &Spec) -> Result<(), Refused> {
        for name in spec.routes.keys() {
            let path = text(&private_health_path(name));
            config.line(&[raw("use_backend"), text(name), raw("if { path"), path, raw("}")])?;
        }
        Ok(())
    }
}

const DEFAULTS: &[&str] = &[
    "mode http",
    "log global",
    // Errors only, and never a query: paths and queries are where clients put their tokens.
    "log-format \"%ci:%cp %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %ts %HM %HPO\"",
    "option dontlognull",
    "option dontlog-normal",
    "option idle-close-on-response",
    "option redispatch",
    "option http-restrict-req-hdr-names reject",
    // A connection that was refused has carried no request: trying again is safe even for a POST.
    "retries 3",
    "retry-on conn-failure",
    "http-reuse safe",
    "timeout http-request 10s",
    "timeout http-keep-alive 60s",
    "timeout connect 2s",
    "timeout queue 5s",
    "timeout check 2s",
    "timeout client 75s",
    "timeout server 75s",
    "timeout tunnel 1h",
];

const HSTS: &str = "http-after-response set-header Strict-Transport-Security \"max-age=31536000\"";

const HYGIENE: &[&str] = &[
    "http-request deny deny_status 400 if { req.hdr_cnt(host) gt 1 } or { req.hdr_cnt(content-length) gt 1 }",
    "http-request deny deny_status 405 if { method TRACE CONNECT }",
    "http-request del-header Proxy",
    "http-request del-header Forwarded",
    "http-request del-header X-Forwarded- -m beg",
    "http-request del-header X-Real-IP",
    "http-request set-header X-Forwarded-For %[src]",
    "http-request set-header X-Forwarded-Proto https",
    "http-after-response set-header X-Content-Type-Options nosniff",
    "http-response del-header Server",
    "http-response del-header X-Powered-By",
];

/// A route's backend with its two servers. The one of the other slot starts in maintenance.
fn backend(
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
            format(&spec.domain),
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

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!("haproxy.cfg", fixture::text(&tree, PATH, Slot::Blue));
    }

    #[test]
    fn the_renderings_differ_only_in_the_disabled_server() {
        let tree = fixture::tree();
        let lines = |slot| -> Vec<String> {
            fixture::text(&tree, PATH, slot).lines().map(|line| line.replace(" disabled", "")).collect()
        };
        assert_eq!(lines(Slot::Blue), lines(Slot::Green));
        for slot in Slot::BOTH {
            let text = fixture::text(&tree, PATH, slot);
            let disabled: Vec<&str> = text.lines().filter(|line| line.ends_with(" disabled")).collect();
            assert_eq!(disabled.len(), 1, "{text}");
            assert!(disabled[0].contains(&format!("server {} ", slot.other())), "{disabled:?}");
        }
    }

    #[test]
    fn a_health_path_stays_in_its_place() {
        let mut spec = fixture::spec();
        for route in spec.routes.values_mut() {
            route.health = "/ready?q=50%".to_owned();
        }
        let text = Proxy::default().config(&spec, Slot::Blue).unwrap();
        assert!(text.contains("set-path /ready if") && text.contains("set-query q=50%% if"), "{text}");
        for route in spec.routes.values_mut() {
            route.health = "/ready HTTP/1.1\r\nX: y".to_owned();
        }
        assert!(matches!(Proxy::default().config(&spec, Slot::Blue), Err(RenderError::Format { .. })));
    }

    #[test]
    fn several_routes_need_a_default() {
        let mut spec = fixture::spec();
        let route = spec.routes.values().next().unwrap().clone();
        spec.routes.insert("second".parse().unwrap(), route);
        assert_eq!(Proxy::default().check(&spec).len(), 1);
        let proxy: Proxy = toml::from_str("default = 'second'").unwrap();
        assert!(proxy.check(&spec).is_empty());
        assert!(proxy.config(&spec, Slot::Blue).unwrap().contains("default_backend second\n"));
        let proxy: Proxy = toml::from_str("default = 'third'\nrequests_per_minute = 0").unwrap();
        assert_eq!(proxy.check(&spec).len(), 2);
    }
}
