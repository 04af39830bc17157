//! `[proxy]` → `haproxy/haproxy.cfg`, in a rendering for each slot, and the list of its certificates.
//!
//! A release never reloads it: slots are switched through the admin socket. The two renderings differ in which server
//! starts disabled, so that a reload or a boot can only ever send traffic to the slot whose view is current.
//!
//! Valid for HAProxy 2.6 to 3.0. No regular expression anywhere: PCRE's compiler needs memory that is writable and
//! executable, which the unit forbids.

mod backend;
mod front;

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::format::Refused;
use super::format::haproxy::{Config, raw, text};
use super::seconds::Seconds;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, certificates, literal};
use crate::model::{OnChange, RouteName, Slot};
use crate::spec::{OsRelease, Service, Spec};

/// How the public reaches the services: HAProxy on 80 and 443, which forwards to the current slot. Every key has a
/// default.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// The lowest version of TLS that a client may speak, `"1.2"` or `"1.3"`; 1.3 if nothing is said.
    min_tls: MinTls,
    /// What is different for single host names, as in `[proxy.hosts."hook.example.com"]`.
    hosts: BTreeMap<String, HostRules>,
    /// How many requests an address may make in a minute; in IPv6 a /64. The next one is answered with 429. 1000 if
    /// nothing is said.
    requests_per_minute: u32,
    /// Networks that are not counted, such as a webhook's senders.
    #[schemars(with = "Vec<String>", example = ["149.154.160.0/20"])]
    exempt: Vec<IpNet>,
    /// The network from which a load balancer connects, such as the VPC's `"10.110.0.0/20"`. From there, and from nowhere
    /// else, each connection has to begin with a PROXY protocol header that names the client.
    #[schemars(with = "Option<String>", example = &"10.110.0.0/20")]
    balancer: Option<IpNet>,
    /// The port on which the load balancer asks, over HTTP and without PROXY protocol, for `/health`: 200 while every
    /// route has a server. Open to `balancer` only; `[firewall.vpc]` has to let it in.
    #[schemars(example = 8404)]
    balancer_health_port: Option<u16>,
    /// How long is waited for whom.
    timeouts: Timeouts,
}

/// What is different for one host name.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HostRules {
    /// The lowest version of TLS that a client may speak to this host name: `"1.2"` where a webhook's sender is not known
    /// to speak 1.3.
    min_tls: MinTls,
}

/// How long is waited, as `"10s"`, `"5m"` or `"1h"`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Timeouts {
    /// For a request's whole header, after which 408 is the answer: no client holds a connection by being slow. 6s if
    /// nothing is said.
    request: Seconds,
    /// For the beginning of a body, 16 KiB or all of it. 10s if nothing is said.
    body: Seconds,
    /// For the next request on a connection that stays open. 60s if nothing is said.
    idle: Seconds,
    /// For a client that neither sends nor takes what it should, and for its TLS handshake. 20s if nothing is said.
    client: Seconds,
    /// For an answer to begin, or to go on; then it is 504. Longer than the longest long poll. 75s if nothing is said.
    answer: Seconds,
    /// For a web socket on which nobody says anything. 1h if nothing is said.
    tunnel: Seconds,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Seconds::new(6),
            body: Seconds::new(10),
            idle: Seconds::new(60),
            client: Seconds::new(20),
            answer: Seconds::new(75),
            tunnel: Seconds::new(3600),
        }
    }
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

impl MinTls {
    /// As HAProxy calls it.
    fn name(self) -> &'static str {
        match self {
            Self::V12 => "TLSv1.2",
            Self::V13 => "TLSv1.3",
        }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            min_tls: MinTls::V13,
            hosts: BTreeMap::new(),
            requests_per_minute: 1000,
            exempt: Vec::new(),
            balancer: None,
            balancer_health_port: None,
            timeouts: Timeouts::default(),
        }
    }
}

/// The file's place in a view.
pub const PATH: &str = "haproxy/haproxy.cfg";

/// The place of the list that says which certificate, and which lowest version of TLS, a host name has.
const LIST: &str = "haproxy/certificates.list";

/// The directory of the certificates: for each host name `NAME.pem`, with its key. Outside every generation.
pub const CERTIFICATES: &str = "/var/lib/bundle/certs";

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
        let hosts = spec.hosts();
        for name in self.hosts.keys().filter(|name| !hosts.contains(name.as_str())) {
            let known: Vec<&str> = hosts.iter().copied().collect();
            problems.push(Problem {
                at: vec!["hosts".to_owned(), name.clone()],
                message: format!("no route has the host name `{name}`"),
                hint: Some(format!("the host names are: {}", known.join(", "))),
            });
        }
        if self.requests_per_minute == 0 {
            let message = "with 0 requests a minute nobody gets an answer".to_owned();
            problems.push(literal::problem("requests_per_minute", message, None));
        }
        if self.balancer.is_some_and(|net| net.prefix_len() == 0) {
            let message = "everybody could say who they are".to_owned();
            let hint = Some("name the VPC's own network, such as `10.110.0.0/20`".to_owned());
            problems.push(literal::problem("balancer", message, hint));
        }
        if let Some(port) = self.balancer_health_port {
            let message = match port {
                0 | 80 | 443 => Some(format!("port {port} is taken")),
                _ if self.balancer.is_none() => Some("there is no `balancer` that could ask".to_owned()),
                _ => None,
            };
            let problem = |message| literal::problem("balancer_health_port", message, None);
            problems.extend(message.map(problem));
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if spec.routes.is_empty() {
            return Ok(());
        }
        let list = self.list(spec).map_err(|refused| refused.at(LIST))?;
        let list = tree.insert(Entry::text(Self::KIND, literal::path(LIST)?, list))?.absolute();
        let acme = tree.get(certificates::PATH, Slot::Blue).is_some();
        for slot in Slot::BOTH {
            let content = self.config(spec, slot, &list, acme)?;
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
    /// The floor of a host name.
    fn floor(&self, host: &str) -> MinTls {
        self.hosts.get(host).map_or(self.min_tls, |rules| rules.min_tls)
    }

    /// A crt-list (HAProxy configuration manual, section 5.1, `crt-list`): which certificate and which floor a name has.
    fn list(&self, spec: &Spec) -> Result<String, Refused> {
        let line = |host: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
            if host.is_empty() || !host.bytes().all(plain) {
                return Err(Refused(format!("{host:?} is not a host name")));
            }
            let floor = self.floor(host).name();
            Ok(format!("{CERTIFICATES}/{host}.pem [ssl-min-ver {floor}] {host}\n"))
        };
        spec.hosts().into_iter().map(line).collect()
    }

    fn config(&self, spec: &Spec, active: Slot, list: &str, acme: bool) -> Result<String, RenderError> {
        let mut services: BTreeMap<&RouteName, &Service> = BTreeMap::new();
        for (name, route) in &spec.routes {
            services.insert(name, literal::service(spec, Self::KIND, &route.service)?);
        }
        self.write(spec, &services, active, list, acme).map_err(|refused| refused.at(PATH))
    }

    fn write(
        &self,
        spec: &Spec,
        services: &BTreeMap<&RouteName, &Service>,
        active: Slot,
        list: &str,
        acme: bool,
    ) -> Result<String, Refused> {
        let mut config = Config::default();
        self.global(&mut config, spec)?;
        self.defaults(&mut config)?;
        self.clear(&mut config, spec, acme)?;
        self.public(&mut config, spec, list)?;
        self.balancer(&mut config, spec)?;
        if acme {
            backend::acme(&mut config)?;
        }
        if front::leads_nowhere(spec) {
            backend::nowhere(&mut config)?;
        }
        for (name, route) in &spec.routes {
            if let Some(service) = services.get(name) {
                backend::route(&mut config, spec, name, route, service, active)?;
            }
        }
        Ok(config.finish())
    }

    /// Mozilla's server-side TLS guidelines 6.0: the ciphers of "intermediate" where TLS 1.2 is allowed, and of "modern"
    /// otherwise; the post-quantum curve where the release's OpenSSL has it (3.5).
    fn global(&self, config: &mut Config, spec: &Spec) -> Result<(), Refused> {
        config
            .section(&[raw("global")])?
            .fixed(&["log stdout format raw local0 info", "maxconn 8000", "tune.bufsize 16384"])
            .line(&[
                raw("stats socket"),
                text(ADMIN_SOCKET),
                raw("mode 660 level admin expose-fd listeners"),
            ])?
            .own("hard-stop-after 120s");
        if spec.hosts().iter().any(|host| self.floor(host) == MinTls::V12) {
            config.own(
                "ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305",
            );
        }
        config.own(
            "ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
        );
        config.own(match spec.droplet.release {
            OsRelease::Debian13 => "ssl-default-bind-curves X25519MLKEM768:X25519:prime256v1:secp384r1",
            OsRelease::Debian12 | OsRelease::Ubuntu2404 => {
                "ssl-default-bind-curves X25519:prime256v1:secp384r1"
            }
        });
        // The list of certificates lowers it for the names that may have less.
        let options = "ssl-default-bind-options prefer-client-ciphers no-tls-tickets ssl-min-ver";
        config.line(&[raw(options), raw(MinTls::V13.name())]).map(drop)
    }

    fn defaults(&self, config: &mut Config) -> Result<(), Refused> {
        let Timeouts { request, body: _, idle, client, answer, tunnel } = &self.timeouts;
        config.section(&[raw("defaults")])?.fixed(DEFAULTS);
        for (name, time) in [
            ("timeout http-request", request),
            ("timeout http-keep-alive", idle),
            ("timeout client", client),
            ("timeout server", answer),
            ("timeout tunnel", tunnel),
        ] {
            config.line(&[raw(name), text(time)])?;
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
    "timeout connect 2s",
    "timeout queue 5s",
    "timeout check 2s",
];

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn config(proxy: &Proxy, spec: &Spec) -> Result<String, RenderError> {
        proxy.config(spec, Slot::Blue, "/list", false)
    }

    #[test]
    fn renders() {
        let tree = fixture::tree();
        insta::assert_snapshot!("haproxy.cfg", fixture::text(&tree, PATH, Slot::Blue));
        insta::assert_snapshot!("certificates.list", fixture::text(&tree, LIST, Slot::Blue));
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
        let text = config(&Proxy::default(), &spec).unwrap();
        assert!(text.contains("set-path /ready if") && text.contains("set-query q=50%% if"), "{text}");
        for route in spec.routes.values_mut() {
            route.health = "/ready HTTP/1.1\r\nX: y".to_owned();
        }
        assert!(matches!(config(&Proxy::default(), &spec), Err(RenderError::Format { .. })));
    }

    /// The fixture with routes of these names, host names and paths.
    fn routes(wanted: &[(&str, &str, &str)]) -> Spec {
        let mut spec = fixture::spec();
        let route = spec.routes.values().next().unwrap().clone();
        spec.routes = wanted
            .iter()
            .map(|(name, host, path)| {
                let route = crate::spec::Route {
                    host: (*host).to_owned(),
                    path: (*path).to_owned(),
                    ..route.clone()
                };
                (name.parse().unwrap(), route)
            })
            .collect();
        spec
    }

    #[test]
    fn the_longest_path_of_a_host_comes_first() {
        let spec = routes(&[
            ("all", "bot.example.com", "/"),
            ("api", "bot.example.com", "/api"),
            ("hooks", "bot.example.com", "/api/hooks"),
            ("shop", "shop.example.com", "/"),
        ]);
        let proxy: Proxy = toml::from_str(
            "balancer = '10.0.0.0/8'\nbalancer_health_port = 8404\nhosts.'shop.example.com'.min_tls = '1.2'",
        )
        .unwrap();
        assert_eq!(proxy.check(&spec), []);
        let text = proxy.config(&spec, Slot::Blue, "/list", true).unwrap();
        insta::assert_snapshot!("several_routes.cfg", text);
        insta::assert_snapshot!("several_routes.list", proxy.list(&spec).unwrap());
    }

    #[test]
    fn what_no_route_gets_is_not_found() {
        let some = config(&Proxy::default(), &routes(&[("api", "bot.example.com", "/api")])).unwrap();
        assert!(some.contains("default_backend bundle:nowhere\n"), "{some}");
        let all = config(&Proxy::default(), &routes(&[("all", "bot.example.com", "/")])).unwrap();
        assert!(!all.contains("nowhere"), "{all}");
        let domain = config(&Proxy::default(), &routes(&[("all", "shop.example.com", "/")])).unwrap();
        assert!(
            domain.contains("default_backend bundle:nowhere\n"),
            "the domain itself has no route: {domain}"
        );
    }

    #[test]
    fn what_does_not_fit_the_rest_is_said() {
        let problems = |text: &str| toml::from_str::<Proxy>(text).unwrap().check(&fixture::spec());
        assert!(problems("").is_empty());
        let found = problems("hosts.'hook.example.com'.min_tls = '1.2'");
        assert_eq!(found[0].at, ["hosts", "hook.example.com"]);
        assert!(found[0].hint.as_ref().unwrap().contains("bot.example.com"));
        assert_eq!(problems("requests_per_minute = 0").len(), 1);
        assert_eq!(problems("balancer = '0.0.0.0/0'").len(), 1);
        assert_eq!(problems("balancer_health_port = 8404").len(), 1);
        assert_eq!(problems("balancer = '10.0.0.0/8'\nbalancer_health_port = 443").len(), 1);
    }
}
