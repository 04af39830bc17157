//! Values of Compose keys that are lists of something with a form of its own: devices, capabilities, hosts, addresses.
//! What the profile writes goes to Compose in the same words; here it is only understood.

use std::net::IpAddr;

use serde_json::{Map, Value as Json};
use toml::de::DeValue;

use super::compose_keys::Shape;
use super::compose_value::{pairs, spelled, text, untouched, wrong};
use super::diagnostics::Diagnostics;
use super::read::{Fields, as_string, unknown};
use super::source::{Span, Value};

/// capabilities(7), without `CAP_`.
const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

fn items<'t>(
    faults: &mut Diagnostics,
    what: &str,
    value: &'t Value<'t>,
    expected: &str,
) -> Option<Vec<&'t Value<'t>>> {
    match value.get_ref().as_array() {
        Some(items) => Some(items.iter().collect()),
        None => wrong(faults, what, value, expected),
    }
}

/// Strings and whole numbers, as they are.
pub(super) fn scalars(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    let expected = "a list of strings and whole numbers";
    let mut list = Vec::new();
    for item in items(faults, what, value, expected)? {
        match item.get_ref() {
            DeValue::String(_) | DeValue::Integer(_) => list.extend(untouched(faults, item)),
            _ => return wrong(faults, &format!("an item of {what}"), item, "a string or a whole number"),
        }
    }
    Some(Json::Array(list))
}

/// One address, or a list of them.
pub(super) fn addresses(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    let mut address = |what: &str, item: &Value<'_>| {
        let text = as_string(faults, what, item)?;
        if text.get_ref().parse::<IpAddr>().is_err() {
            faults.error(text.span(), format!("`{}` is not an address", text.get_ref()));
        }
        Some(Json::from(text.into_inner()))
    };
    match value.get_ref() {
        DeValue::Array(items) => {
            let what = format!("an item of {what}");
            Some(Json::Array(items.iter().filter_map(|item| address(&what, item)).collect()))
        }
        DeValue::String(_) => address(what, value),
        _ => wrong(faults, what, value, "an address or a list of addresses"),
    }
}

/// Names with addresses. A list says them with `:` or `=`, in an address's own brackets or without (Compose
/// specification, `extra_hosts`).
pub(super) fn extra_hosts(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    if !value.get_ref().is_array() {
        let hosts = pairs(faults, what, value)?;
        for (_, span, address) in &hosts {
            host_address(faults, span, address);
        }
        return Some(Json::Object(
            hosts.into_iter().map(|(name, _, address)| (name, address.into())).collect(),
        ));
    }
    let mut list = Vec::new();
    for item in items(faults, what, value, "a table of names and addresses")? {
        let Some(host) = as_string(faults, &format!("an item of {what}"), item) else { continue };
        match host.get_ref().split_once(['=', ':']) {
            Some((name, address)) if !name.is_empty() => host_address(faults, &item.span(), address),
            _ => {
                faults
                    .error(item.span(), format!("`{}` in {what} has no address", host.get_ref()))
                    .help("write `\"NAME:ADDRESS\"`");
            }
        }
        list.push(host.into_inner().into());
    }
    Some(Json::Array(list))
}

fn host_address(faults: &mut Diagnostics, span: &Span, address: &str) {
    let bare = address.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(address);
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        faults
            .error(span.clone(), format!("`{address}` is not an address"))
            .help("write an IPv4 or IPv6 address, or `host-gateway` for the droplet itself");
    }
}

/// Capabilities, with or without `CAP_`.
pub(super) fn capabilities(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    let mut list = Vec::new();
    for item in items(faults, what, value, "a list of strings")? {
        let Some(name) = as_string(faults, &format!("an item of {what}"), item) else { continue };
        let upper = name.get_ref().to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if !CAPABILITIES.contains(&bare) {
            let message = format!("`{}` is not a capability", name.get_ref());
            unknown(faults, item.span(), &message, bare, &CAPABILITIES.into());
        }
        list.push(name.into_inner().into());
    }
    Some(Json::Array(list))
}

/// `SOURCE[:TARGET[:rwm]]`, or the table of that.
pub(super) fn devices(faults: &mut Diagnostics, what: &str, value: &Value<'_>) -> Option<Json> {
    let mut list = Vec::new();
    let what_item = format!("an item of {what}");
    for item in items(faults, what, value, "a list of devices")? {
        let DeValue::Table(table) = item.get_ref() else {
            let Some(device) = text(faults, &what_item, item, Shape::Text) else { continue };
            // A device of the container device interface is a name, `vendor.com/class=device`.
            let cdi = device.as_str().is_some_and(|device| device.contains('='));
            if !cdi {
                text(faults, &what_item, item, Shape::Path);
            }
            list.push(device);
            continue;
        };
        let mut fields = Fields::new(what_item.clone(), table, faults);
        fields.require("source", Some(item.span()), "`source = \"/dev/…\"`");
        let mut device = Map::new();
        for key in ["source", "target", "permissions"] {
            let Some(text) = fields.string(key) else { continue };
            let text = spelled(fields.faults, text.span(), text.get_ref());
            device.extend(text.map(|text| (key.to_owned(), Json::from(text))));
        }
        fields.finish();
        list.push(Json::Object(device));
    }
    Some(Json::Array(list))
}

/// Kernel settings that belong to a container's own namespaces; the others are the droplet's, and Docker refuses them
/// (Docker documentation, `docker container run`, "Configure namespaced kernel parameters").
pub(super) fn own_namespace(faults: &mut Diagnostics, what: &str, pairs: &[(String, Span, String)]) {
    const OWN: [&str; 6] =
        ["net.", "fs.mqueue.", "kernel.msg", "kernel.shm", "kernel.sem", "kernel.domainname"];
    for (key, span, _) in pairs {
        if !OWN.iter().any(|own| key.starts_with(own)) {
            faults
                .error(span.clone(), format!("`{key}` in {what} is a setting of the whole droplet"))
                .help("a container has `net.*`, `fs.mqueue.*`, `kernel.msg*`, `kernel.sem` and `kernel.shm*` for itself");
        }
    }
}
