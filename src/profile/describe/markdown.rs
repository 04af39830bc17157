//! `docs/profile.md`, from the schema, and `docs/compose-keys.md`, from the table of Compose keys. Tests keep both fresh.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::super::compose_keys::{ELEMENTS, HEALTHCHECK, KEYS, Treatment};
use super::services::{description, sentence};

const INTRODUCTION: &str = include_str!("introduction.md");

/// The text of `docs/profile.md`; `schema` is that of a whole profile, with what is required.
pub fn profile(schema: &Json) -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## At the top\n\n");
    let mut tables: Vec<(String, &Json)> = Vec::new();
    keys(&mut text, schema, "", &mut tables);
    let mut nth = 0;
    while let Some((path, table)) = tables.get(nth).cloned() {
        nth += 1;
        let _ = write!(text, "\n## `[{path}]`\n\n{}\n", said(table));
        let one = table.get("additionalProperties").filter(|one| one.get("properties").is_some());
        if let Some(about) = one.map(said).filter(|about| !about.is_empty()) {
            let _ = write!(text, "\n{about}\n");
        }
        let mut inner = Vec::new();
        let mut listed = String::new();
        keys(&mut listed, one.unwrap_or(table), &path, &mut inner);
        if !listed.is_empty() {
            let _ = write!(text, "\n{listed}");
        }
        // Tables within stand right behind the one that they are in.
        tables.splice(nth..nth, inner);
    }
    text
}

/// The keys of a table, as a table; those that are tables themselves go to `tables`.
fn keys<'s>(text: &mut String, schema: &'s Json, path: &str, tables: &mut Vec<(String, &'s Json)>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut rows = String::new();
    for (name, value) in properties {
        let must = required.contains(&name.as_str());
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if let Some(step) = table_step(value) {
            tables.push((format!("{here}{step}"), value));
            continue;
        }
        let default = match value.get("default") {
            _ if must => "*required*".to_owned(),
            Some(default) => format!("`{}`", toml(default)),
            None => String::new(),
        };
        let examples = value["examples"].as_array().into_iter().flatten();
        let examples: Vec<String> = examples.map(|example| format!("`{}`", toml(example))).collect();
        let about = without_default(&said(value), value.get("default").is_some());
        let cells = [format!("`{name}`"), kind(value), default, about, examples.join(", ")];
        let cells = cells.map(|cell| cell.replace('|', "\\|").replace("\n\n", "<br>").replace('\n', " "));
        let _ = writeln!(rows, "| {} |", cells.join(" | "));
    }
    if !rows.is_empty() {
        let _ = write!(
            text,
            "| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n{rows}"
        );
    }
}

/// What follows the name in a table's header: nothing, or `.NAME` where the profile chooses the keys. `None` for a value
/// that one writes in a line.
fn table_step(value: &Json) -> Option<&'static str> {
    if value["type"] != "object" {
        return None;
    }
    if value.get("properties").is_some() {
        return Some("");
    }
    value["additionalProperties"].get("properties").map(|_| ".NAME")
}

/// A doc comment says the default in words; here it has a column of its own.
fn without_default(about: &str, known: bool) -> String {
    match about.rfind("Default:") {
        // Only where it is the last sentence of the first paragraph.
        Some(at)
            if known
                && !about[at..].contains("\n\n")
                && !about[at..].trim_end_matches('.').contains(". ") =>
        {
            about[..at].trim_end().to_owned()
        }
        _ => about.to_owned(),
    }
}

fn said(schema: &Json) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

/// `string`, `integer from 1 to 65535`, `list of strings` …
fn kind(schema: &Json) -> String {
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", toml(value))).collect();
        return format!("one of {}", values.join(", "));
    }
    let names = match &schema["type"] {
        Json::String(name) => vec![name.as_str()],
        Json::Array(names) => names.iter().filter_map(Json::as_str).collect(),
        _ => return "anything".to_owned(),
    };
    let names: Vec<String> = names.into_iter().map(|name| one_kind(name, schema)).collect();
    names.join(" or ")
}

fn one_kind(name: &str, schema: &Json) -> String {
    match name {
        "array" => match &schema["items"] {
            Json::Object(_) => format!("list of {}", plural(&kind(&schema["items"]))),
            _ => "list".to_owned(),
        },
        "object" => "table".to_owned(),
        "integer" => match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("integer from {least} to {most}"),
            (Some(least), None) => format!("integer from {least}"),
            _ => "integer".to_owned(),
        },
        name => name.to_owned(),
    }
}

fn plural(kind: &str) -> String {
    match kind {
        "list" => "lists".to_owned(),
        "string" | "table" => format!("{kind}s"),
        "string or table" => "strings and tables".to_owned(),
        "string or integer" => "strings and integers".to_owned(),
        kind => match kind.strip_prefix("integer") {
            Some(range) => format!("integers{range}"),
            None => kind.to_owned(),
        },
    }
}

/// A value as TOML writes it in a line.
pub(in crate::profile) fn toml(value: &Json) -> String {
    match value {
        Json::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Json::Object(table) => inline(table),
        // A basic string of TOML escapes as JSON does.
        other => other.to_string(),
    }
}

fn inline(table: &Map<String, Json>) -> String {
    let pair = |(key, value): (&String, &Json)| {
        let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let key = if bare { key.clone() } else { format!("\"{key}\"") };
        format!("{key} = {}", toml(value))
    };
    format!("{{ {} }}", table.iter().map(pair).collect::<Vec<_>>().join(", "))
}

/// The text of `docs/compose-keys.md`.
pub fn compose_keys() -> String {
    let mut text = include_str!("compose-keys.md").to_owned();
    text.push_str("\n## The keys of a service\n\n| key | what becomes of it | meaning, or what to write instead |\n| --- | --- | --- |\n");
    for key in KEYS {
        let becomes = match key.treatment {
            Treatment::Typed(_) => "checked",
            Treatment::Lifted(_) => "**lifted**",
            Treatment::Carried => "carried",
            Treatment::Refused => "*refused*",
        };
        let about = match key.treatment {
            Treatment::Carried => format!("{}.", description(key).split('.').next().unwrap_or_default()),
            _ => description(key),
        };
        let _ = writeln!(text, "| `{}` | {becomes} | {} |", key.name, about.replace('|', "\\|"));
    }
    text.push_str("| `x-*` | carried | Extensions. |\n\n## The keys of `healthcheck`\n\nAll are checked.\n\n| key | meaning |\n| --- | --- |\n");
    for (name, _, about) in HEALTHCHECK {
        let _ = writeln!(text, "| `{name}` | {} |", sentence(about));
    }
    text.push_str("\n## The rest of a Compose file\n\nA profile is not a Compose file. What stands there beside the services is said so here:\n\n| element | in a profile |\n| --- | --- |\n");
    for (name, about) in ELEMENTS {
        let _ = writeln!(text, "| `{name}` | {} |", sentence(about));
    }
    text
}
