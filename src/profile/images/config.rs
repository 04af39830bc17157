//! How containers of an image run.

use std::collections::BTreeMap;

use crate::spec::ImageConfig;

use super::super::read::{Fields, as_array, as_string};
use super::{absolute, names};

/// Reads the keys of `[images.NAME]` that become its configuration.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> ImageConfig {
    ImageConfig {
        user: fields.string("user").map(toml::Spanned::into_inner),
        env: pairs(fields, "env"),
        entrypoint: words(fields, "entrypoint"),
        cmd: words(fields, "cmd"),
        workdir: fields.get("workdir").and_then(|_| absolute(fields, "workdir")),
        ports: names(fields, "ports", is_port, "is not a port: write `8000/tcp`"),
        volumes: names(fields, "volumes", |text| text.starts_with('/'), "is not an absolute path"),
        stop_signal: fields.string("stop_signal").map(toml::Spanned::into_inner),
        labels: pairs(fields, "labels"),
    }
}

/// `PORT` or `PORT/PROTOCOL` (image-spec, `config.md`, `ExposedPorts`).
fn is_port(text: &str) -> bool {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    port.parse::<u16>().is_ok_and(|port| port > 0) && ["tcp", "udp"].contains(&protocol)
}

/// A list of words, in which a word may come twice.
fn words(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Vec<String>> {
    let value = fields.get(key)?;
    let what = fields.name_of(key);
    let items = as_array(fields.faults, &what, value)?;
    let texts = items.iter().filter_map(|item| as_string(fields.faults, &format!("an item of {what}"), item));
    Some(texts.map(toml::Spanned::into_inner).collect())
}

/// A table of texts.
pub(super) fn pairs(fields: &mut Fields<'_, '_>, key: &'static str) -> BTreeMap<String, String> {
    let what = fields.name_of(key);
    let Some(table) = fields.table(key) else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for (name, value) in table {
        let text = as_string(fields.faults, &format!("a value of {what}"), value);
        let name = name.get_ref().to_string();
        if name.is_empty() || name.contains(['=', '\0']) {
            fields.faults.error(value.span(), format!("`{name}` is no name for a value of {what}"));
            continue;
        }
        all.extend(text.map(|text| (name, text.into_inner())));
    }
    all
}
