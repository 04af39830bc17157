//! Published ports and the labels of other proxies → routes through the bundle's own door.

use serde_json::Value;

use super::document::Table;
use super::import::Import;
use super::known::known;
use super::ledger::{Path, item_name, path};
use super::roles::{Role, listed, words};

/// A port that the public could reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// As the profile calls the service.
    pub(crate) service: String,
    pub(crate) port: u16,
    /// The host name that a label gave.
    pub(crate) host: Option<String>,
    /// The path that a label gave.
    pub(crate) below: Option<String>,
    pub(crate) health: Option<String>,
    /// The smaller, the more it is the one that the domain is about.
    pub(crate) rank: u32,
    /// The key of the port that was published on the loopback only.
    pub(crate) private: Option<Path>,
}

/// Ports of protocols that are not HTTP (IANA, Service Name and Transport Protocol Port Number Registry).
const OTHERS: &[u16] = &[
    21, 22, 23, 25, 53, 110, 111, 123, 143, 161, 389, 465, 514, 587, 636, 853, 873, 993, 995, 1194, 1433,
    1521, 1883, 2022, 2049, 2181, 2222, 2379, 3306, 3478, 4222, 5222, 5060, 5061, 6881, 8388, 5269, 5349,
    5432, 5433, 5671, 5672, 6379, 6380, 6432, 8883, 9042, 9092, 9094, 11211, 25565, 27017, 33060, 50051,
    51820,
];

/// Whether a port is one on which programs usually speak HTTP.
fn usual(port: u16) -> bool {
    matches!(port, 80..=99 | 591 | 1080 | 1313 | 1337 | 1880 | 2283 | 2368 | 3000..=3999 | 4000..=4999 | 5000..=5999
        | 7000..=7999 | 8000..=8999 | 9000..=9999 | 10000 | 11434 | 15672 | 19999)
        && !OTHERS.contains(&port)
}

/// Ports on which programs speak TLS themselves.
const TLS: &[u16] = &[443, 8443, 9443];

impl Import<'_> {
    /// What the public reaches of a service.
    pub(super) fn door(&mut self, old: &str) {
        let role = self.roles.get(old).cloned().unwrap_or(Role::Slot);
        if role.is_out() {
            return;
        }
        let service = self.model["services"][old].clone();
        let (host, below, labelled) = labelled(&service);
        let image = known(service["image"].as_str().unwrap_or_default());
        let mut found: Vec<Candidate> = Vec::new();
        let mut encrypted = false;
        let mut closed: Vec<String> = Vec::new();
        for (nth, port) in service["ports"].as_array().into_iter().flatten().enumerate() {
            let at = path(["services", old, "ports", &item_name(port, nth)]);
            let target = number(&port["target"]);
            let published = number(&port["published"]);
            let udp = port["protocol"] == "udp";
            let Some(target) = target else {
                self.ledger.left(at, "a range of ports is not published", Some("name the ports one by one"));
                self.ledger.todo(format!(
                    "`{old}` publishes a range of ports, and nothing of it is reached from outside now"
                ));
                continue;
            };
            if role.is_state() {
                self.ledger.left(
                    at,
                    "nothing of a stateful service is published: other services reach it by name",
                    Some("from your own machine: `ssh -L` to its address in `bundle.lock`"),
                );
                if image.http.is_some() || [9000, 9001, 15672].contains(&target) {
                    self.ledger.todo(format!("port {target} of `{old}` was published, and is not any more: a route leads to stateless services only"));
                }
            } else if matches!(role, Role::Migrations(_)) {
                self.ledger.left(at, "migrations serve nobody", None);
            } else if TLS.contains(&target) {
                encrypted = true;
                self.ledger.left(at, "TLS ends at the door: HAProxy speaks HTTP to the service", None);
            } else if udp || !(usual(target) || image.http.is_some_and(|(port, _)| port == target)) {
                let protocol = if udp { "udp" } else { "tcp" };
                self.ledger.left(
                    at,
                    "the door forwards HTTP only, and nothing else is published",
                    Some("give it a droplet of its own, or do without"),
                );
                closed.push(format!("{target}/{protocol}"));
            } else {
                let text = format!("a route: HAProxy reaches port {target} of the container directly");
                self.ledger.changed(at.clone(), text, None);
                if !found.iter().any(|one| one.port == target) {
                    let rank = rank(old, published, image.http.is_some_and(|(port, _)| port == target));
                    let private =
                        port["host_ip"].as_str().is_some_and(|ip| ip.starts_with("127.") || ip == "::1");
                    found.push(Candidate {
                        private: private.then_some(at),
                        ..self.candidate(old, target, rank)
                    });
                }
            }
        }
        if !closed.is_empty() {
            closed.dedup();
            let closed: Vec<&str> = closed.iter().map(String::as_str).collect();
            self.ledger.todo(format!("{} of `{old}` do not speak HTTP as far as their numbers say, and are not reached from outside any more; for one that does, add a `[routes.NAME]`", listed(&closed)));
        }
        let virtual_port = service["environment"]["VIRTUAL_PORT"].as_str().and_then(|text| text.parse().ok());
        if host.is_some() || virtual_port.is_some() {
            let port = labelled
                .or(virtual_port)
                .or(image.http.map(|(port, _)| port))
                .or(found.first().map(|one| one.port));
            let port =
                port.or_else(|| exposed(&service)).or_else(|| health_address(&service).map(|(port, _)| port));
            if port.is_none() {
                self.ledger.todo(format!(
                    "no port of `{old}` is named: look at `port` in `[routes.{}]`",
                    self.names[old]
                ));
            }
            let port = port.unwrap_or(80);
            if !found.iter().any(|one| one.port == port)
                && !role.is_state()
                && !matches!(role, Role::Migrations(_))
            {
                found.insert(0, self.candidate(old, port, 5));
            }
            if let Some(first) = found.iter_mut().find(|one| one.port == port) {
                (first.host, first.below, first.private) = (host, below, None);
            }
        } else if found.is_empty() && encrypted {
            let port = image.http.map_or(80, |(port, _)| port);
            self.ledger.todo(format!("`{old}` published a port of TLS only: it has to speak HTTP to the door; look at `port` in `[routes.{}]`", self.names[old]));
            found.push(self.candidate(old, port, 5));
        }
        self.candidates.extend(found);
    }

    fn candidate(&self, old: &str, port: u16, rank: u32) -> Candidate {
        let service = &self.model["services"][old];
        let image = known(service["image"].as_str().unwrap_or_default());
        let by_check = health_address(service).filter(|(checked, _)| *checked == port).map(|(_, path)| path);
        let by_image = image.http.filter(|(known, _)| *known == port).map(|(_, path)| path.to_owned());
        Candidate {
            service: self.names[old].clone(),
            port,
            host: None,
            below: None,
            health: by_image.or(by_check),
            rank,
            private: None,
        }
    }

    /// The tables of the routes, and the domain.
    pub(super) fn routes(&mut self) -> (Vec<Table>, String) {
        let mut all = std::mem::take(&mut self.candidates);
        // Where something faces the public, what faced the machine alone goes on doing so.
        if all.iter().any(|one| one.private.is_none()) {
            for at in all.iter().filter_map(|one| one.private.clone()) {
                self.ledger.revoke(
                    &at,
                    "it was reached from the machine itself only: nothing is published",
                    Some("from your own machine: `ssh -L` to its address in `bundle.lock`"),
                );
            }
            all.retain(|one| one.private.is_none());
        } else if !all.is_empty() {
            self.ledger.todo("ports were published on the loopback, for a proxy on the machine itself: the bundle has its own, and a route leads to each".to_owned());
        }
        all.sort_by_key(|one| (one.rank, one.host.is_none(), one.service.clone(), one.port));
        let domain = all.first().and_then(|one| one.host.clone());
        if domain.is_none() {
            self.ledger
                .todo("write your own `domain` in `production.toml` (now `app.example.com`)".to_owned());
        }
        let domain = domain.unwrap_or_else(|| "app.example.com".to_owned());
        let mut tables: Vec<Table> = Vec::new();
        for (nth, one) in all.iter().enumerate() {
            let plain = one.service.clone();
            let again = tables.iter().any(|table: &Table| table.name.get(1) == Some(&plain));
            let name = if again { format!("{plain}-{}", one.port) } else { plain };
            let mut table = Table::new(&["routes", &name]);
            table.set("service", one.service.clone());
            table.set("port", one.port);
            let health = table.set("health", one.health.clone().unwrap_or_else(|| "/".to_owned()));
            if one.health.is_none() {
                health.note(
                    "A guess: a path that answers 200 without a login, as soon as the service is ready.",
                );
                self.ledger.todo(format!("name a path of `{}` that answers 200 without a login when it is ready, as `health` in `[routes.{name}]` (now `/`)", one.service));
            }
            let host = one.host.clone().filter(|host| *host != domain);
            if nth > 0 && one.below.is_none() {
                let guess = host.clone().unwrap_or_else(|| format!("{name}.{domain}"));
                let entry = table.set("host", guess.clone());
                if host.is_none() {
                    entry.note("A guess: the host name under which the public reaches this one.");
                    self.ledger.todo(format!("`{}` had a port of its own: choose the host name that leads to it (now `{guess}`), or take `[routes.{name}]` out if the public has no business there", one.service));
                }
            } else if let Some(host) = host {
                table.set("host", host);
            }
            if let Some(below) = &one.below {
                table.set("path", below.clone());
            }
            tables.push(table);
        }
        if tables.is_empty() {
            self.ledger.todo("nothing of it is reached from outside: if something should be, add a `[routes.NAME]` with `service`, `port` and `health`".to_owned());
        }
        (tables, domain)
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok().filter(|port| *port > 0),
        Value::String(text) => text.parse().ok().filter(|port| *port > 0),
        _ => None,
    }
}

/// The smaller, the more a service looks like the one that the public wants.
fn rank(name: &str, published: Option<u16>, known_port: bool) -> u32 {
    let by_port = match published {
        Some(80 | 443) => 0,
        Some(8080 | 8000 | 3000) => 20,
        _ => 30,
    };
    let front = ["nginx", "proxy", "caddy", "web", "app", "frontend", "site", "www"];
    let by_name = front.iter().position(|word| name.split(['-', '_']).any(|part| part == *word));
    by_port + by_name.map_or(9, |nth| u32::try_from(nth).unwrap_or(9)) + u32::from(!known_port)
}

/// Host, path and port that the labels of Traefik or the variables of nginx-proxy give.
fn labelled(service: &Value) -> (Option<String>, Option<String>, Option<u16>) {
    let (mut host, mut below, mut port) = (None, None, None);
    for (key, value) in service["labels"].as_object().into_iter().flatten() {
        let Some(text) = value.as_str() else { continue };
        if key.starts_with("traefik.http.routers.") && key.ends_with(".rule") {
            host = host.or_else(|| argument(text, "Host(")).filter(|host| is_host(host));
            below = below.or_else(|| argument(text, "PathPrefix("));
        } else if key.starts_with("traefik.http.services.") && key.ends_with(".loadbalancer.server.port") {
            port = port.or_else(|| text.parse().ok());
        } else if key == "caddy" {
            host = host.or_else(|| is_host(text).then(|| text.to_owned()));
        } else if key == "caddy.reverse_proxy" {
            let number = text.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty());
            port = port.or_else(|| number.and_then(|digits| digits.parse().ok()));
        }
    }
    let named = service["environment"]["VIRTUAL_HOST"].as_str().and_then(|text| text.split(',').next());
    (host.or_else(|| named.filter(|name| is_host(name)).map(str::to_owned)), below, port)
}

/// The first argument in backticks or quotes of `Host(…)`.
fn argument(rule: &str, function: &str) -> Option<String> {
    let rest = rule.split_once(function)?.1.trim_start_matches(['`', '"', '\'', ' ']);
    let end = rest.find(['`', '"', '\'', ')', ','])?;
    Some(rest[..end].to_owned()).filter(|text| !text.is_empty())
}

fn is_host(text: &str) -> bool {
    text.contains('.')
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

fn exposed(service: &Value) -> Option<u16> {
    service["expose"].as_array()?.iter().find_map(number)
}

/// Port and path that a health check asks on the container itself.
fn health_address(service: &Value) -> Option<(u16, String)> {
    let test = words(&service["healthcheck"]["test"]);
    // `curl` does not ask for the scheme.
    let rest = match test.split_once("http://") {
        Some((_, rest)) => rest,
        None => &test[test.find("localhost:").or_else(|| test.find("127.0.0.1:"))?..],
    };
    let end = rest.find([' ', '"', '\'', '|', '>', ';', ')', '\\']).unwrap_or(rest.len());
    let (host, below) = rest[..end].split_once('/').unwrap_or((&rest[..end], ""));
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    if !["localhost", "127.0.0.1", "0.0.0.0"].contains(&name) || below.contains('$') {
        return None;
    }
    Some((port.parse().ok()?, format!("/{below}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_checks_say_where_a_service_answers() {
        let service = json!({
            "labels": {
                "traefik.http.routers.api.rule": "Host(`api.example.org`) && PathPrefix(`/v1`)",
                "traefik.http.services.api.loadbalancer.server.port": "8080",
            },
            "healthcheck": {"test": ["CMD-SHELL", "curl -f http://localhost:8080/health || exit 1"]},
        });
        assert_eq!(
            labelled(&service),
            (Some("api.example.org".to_owned()), Some("/v1".to_owned()), Some(8080))
        );
        assert_eq!(health_address(&service), Some((8080, "/health".to_owned())));
        assert_eq!(argument("Host(", "Host("), None);
    }
}
