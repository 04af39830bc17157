//! Who reaches the machine.

use ipnet::IpNet;

use super::view::View;
use super::{Report, Table, error, warning};

pub(super) const LINTS: Table = &[
    warning(
        "open-firewall",
        "without the table there is no firewall at all, which nobody should have by forgetting it",
        open_firewall,
    ),
    warning(
        "ssh-from-everywhere",
        "every scanner on the Internet then tries passwords, keys and the next hole in the SSH server",
        ssh_from_everywhere,
    ),
    warning(
        "documentation-address",
        "these networks are for examples (RFC 5737, RFC 3849): nobody comes from there, so that nobody could log in",
        documentation_address,
    ),
    error(
        "public-data-port",
        "databases, caches and Docker's own port are taken over within hours of facing the Internet",
        public_data_port,
    ),
    error(
        "private-port-public",
        "a port is for the private network or for everybody: said twice, often in two layers, the wider one wins in silence",
        private_port_public,
    ),
];

fn open_firewall(view: &View<'_>, report: &mut Report) {
    if view.knows("firewall") && view.value(&["firewall"]).is_none() {
        report
            .whole("firewall", "the profile has no `[firewall]`: every port of the machine is open")
            .help("write `[firewall]` with `ssh_from = [\"203.0.113.0/24\"]`, the networks that you administer from");
    }
}

fn ssh_from_everywhere(view: &View<'_>, report: &mut Report) {
    for (span, text) in view.texts(&["firewall", "ssh_from"]) {
        let wide = match text.parse::<IpNet>() {
            Ok(IpNet::V4(net)) => net.prefix_len() < 8,
            Ok(IpNet::V6(net)) => net.prefix_len() < 16,
            Err(_) => false,
        };
        if wide {
            report
                .at(span, "firewall.ssh_from", format!("SSH would be open to `{text}`"))
                .help("name the networks that you administer from: an office, a VPN, a jump host");
        }
    }
}

const DOCUMENTATION: [&str; 5] =
    ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"];

fn documentation_address(view: &View<'_>, report: &mut Report) {
    let texts = view.texts(&["firewall", "ssh_from"]);
    let example = |text: &str| {
        let Ok(net) = text.parse::<IpNet>() else { return false };
        DOCUMENTATION.iter().filter_map(|known| known.parse().ok()).any(|known: IpNet| known.contains(&net))
    };
    let mut examples = texts.into_iter().filter(|(_, text)| example(text));
    if let Some((span, text)) = examples.next() {
        let finding = report.at(span, "firewall.ssh_from", format!("`{text}` is an address for examples"));
        for (other, _) in examples {
            finding.also(other, "and this");
        }
        finding
            .help("put the networks in from which you administer: nobody else reaches the machine over SSH");
    }
}

/// Ports and what listens there (IANA service names, and each program's documentation).
const DATA: [(i64, &str); 15] = [
    (1433, "SQL Server"),
    (2375, "Docker"),
    (2376, "Docker"),
    (2379, "etcd"),
    (3306, "MySQL"),
    (5432, "Postgres"),
    (5672, "RabbitMQ"),
    (6379, "Redis"),
    (6380, "Redis"),
    (6432, "PgBouncer"),
    (9092, "Kafka"),
    (9200, "Elasticsearch"),
    (9300, "Elasticsearch"),
    (11211, "memcached"),
    (27017, "MongoDB"),
];

fn public_data_port(view: &View<'_>, report: &mut Report) {
    for key in ["public_tcp", "public_udp"] {
        for (span, port) in view.numbers(&["firewall", key]) {
            let Some((_, what)) = DATA.iter().find(|(known, _)| *known == port) else { continue };
            report
                .at(
                    span,
                    format!("firewall.{key}"),
                    format!("port {port} of {what} would be open to everybody"),
                )
                .help("services reach each other without it; for other droplets there is `[firewall.vpc]`");
        }
    }
}

fn private_port_public(view: &View<'_>, report: &mut Report) {
    let public = view.numbers(&["firewall", "public_tcp"]);
    for (span, port) in view.numbers(&["firewall", "vpc", "tcp"]) {
        let Some((other, _)) = public.iter().find(|(_, known)| *known == port) else { continue };
        report
            .at(
                other.clone(),
                "firewall.public_tcp",
                format!("port {port} is for the private network, and open to everybody"),
            )
            .also(span, "for the private network here")
            .help("take it out of one of the two");
    }
}
