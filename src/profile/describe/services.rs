//! `[services.NAME]`: the schema of a Compose service, from the table of its keys.

use serde_json::{Map, Value as Json, json};

use super::super::compose_keys::{HEALTHCHECK, KEYS, Key, Lifted, Shape, Treatment};
use super::words::DURATION;

/// As the reader takes names.
const NAME: &str = "^[a-z0-9][a-z0-9_.-]{0,62}$";
const SIZE: &str = "^[0-9]+(b|kb?|mb?|gb?)?$";

/// The schema of all services by name.
pub(super) fn schema() -> Json {
    let mut properties = Map::new();
    for key in KEYS {
        let mut value = match key.treatment {
            Treatment::Typed(shape) => typed(shape),
            Treatment::Lifted(lifted) => self::lifted(lifted),
            Treatment::Carried => json!({}),
            Treatment::Refused => continue,
        };
        value["description"] = description(key).into();
        if let Some(example) = example(key.example) {
            value["examples"] = json!([example]);
        }
        properties.insert(key.name.to_owned(), value);
    }
    json!({
        "description": "The services by name, in Compose's terms and spelling; `docs/compose-keys.md` lists all keys.",
        "type": "object",
        "propertyNames": { "pattern": NAME },
        "additionalProperties": {
            "type": "object",
            "properties": properties,
            "patternProperties": { "^x-": {} },
            "additionalProperties": false,
            "required": ["image"],
        },
    })
}

/// What a key is for.
pub(super) fn description(key: &Key) -> String {
    let more = if key.treatment == Treatment::Carried { " Carried to Compose as it is." } else { "" };
    format!("{}{more}", sentence(key.about))
}

/// With a capital letter and a full stop.
pub(super) fn sentence(about: &str) -> String {
    let mut letters = about.chars();
    let text: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    format!("{text}.")
}

/// A value written in TOML.
pub(super) fn example(text: &str) -> Option<Json> {
    let document = toml::from_str::<toml::Table>(&format!("v = {text}")).ok()?;
    serde_json::to_value(document.get("v")?).ok()
}

fn typed(shape: Shape) -> Json {
    let string = json!({ "type": "string" });
    match shape {
        Shape::Text => string,
        Shape::Path => json!({ "type": "string", "pattern": "^/" }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Number(least) => json!({ "type": "integer", "minimum": least }),
        Shape::Range(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Decimal => json!({ "type": ["number", "string"], "pattern": "^[0-9.]+$" }),
        Shape::Size => json!({ "type": ["string", "integer"], "pattern": SIZE, "minimum": 1 }),
        Shape::Time => json!({ "type": "string", "pattern": DURATION }),
        Shape::Signal => json!({ "type": "string", "pattern": "^(SIG[A-Z0-9+-]+|[0-9]{1,3})$" }),
        Shape::Strings | Shape::Capabilities => json!({ "type": "array", "items": string }),
        Shape::Scalars => json!({ "type": "array", "items": { "type": ["string", "integer"] } }),
        Shape::Words | Shape::Addresses => json!({ "type": ["string", "array"], "items": string }),
        Shape::Tmpfs => json!({
            "type": ["string", "array"],
            "pattern": "^/",
            "items": { "type": "string", "pattern": "^/" },
        }),
        Shape::Pairs | Shape::Sysctls | Shape::ExtraHosts => pairs(),
        Shape::Devices => json!({
            "type": "array",
            "items": {
                "type": ["string", "object"],
                "properties": {
                    "source": { "type": "string", "description": "The droplet's device.", "examples": ["/dev/fuse"] },
                    "target": { "type": "string", "description": "Its path in the container.", "examples": ["/dev/fuse"] },
                    "permissions": { "type": "string", "description": "What may be done with it.", "examples": ["rw"] },
                },
                "required": ["source"],
                "additionalProperties": false,
            },
        }),
        Shape::Healthcheck => {
            let properties: Map<String, Json> = HEALTHCHECK
                .iter()
                .map(|(name, shape, about)| {
                    let mut value = typed(*shape);
                    value["description"] = sentence(about).into();
                    ((*name).to_owned(), value)
                })
                .collect();
            json!({ "type": "object", "properties": properties, "additionalProperties": false })
        }
        Shape::Ulimits => json!({
            "type": "object",
            "additionalProperties": {
                "type": ["integer", "object"],
                "minimum": -1,
                "properties": {
                    "soft": { "type": "integer", "description": "The limit at the start.", "examples": [65536] },
                    "hard": { "type": "integer", "description": "How far it may be raised.", "examples": [65536] },
                },
                "required": ["soft", "hard"],
                "additionalProperties": false,
            },
        }),
    }
}

/// A table, or a list of `KEY=VALUE`.
pub(super) fn pairs() -> Json {
    json!({
        "type": ["object", "array"],
        "additionalProperties": { "type": ["string", "number", "boolean"] },
        "items": { "type": "string" },
    })
}

fn lifted(lifted: Lifted) -> Json {
    match lifted {
        Lifted::Image => json!({ "type": "string", "minLength": 1 }),
        Lifted::User => json!({ "type": "string" }),
        Lifted::Secrets => json!({ "type": "array", "items": { "type": "string", "pattern": NAME } }),
        Lifted::Environment => pairs(),
        Lifted::EnvFiles => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        Lifted::Volumes => json!({ "type": "array", "items": { "type": "string", "pattern": ":/" } }),
        Lifted::Dependencies => json!({
            "type": ["array", "object"],
            "items": { "type": "string", "pattern": NAME },
            "propertyNames": { "pattern": NAME },
            "additionalProperties": {
                "type": "object",
                "properties": {
                    "condition": {
                        "type": "string",
                        "description": "What is waited for.",
                        "enum": ["service_started", "service_healthy", "service_completed_successfully"],
                    },
                },
                "required": ["condition"],
                "additionalProperties": false,
            },
        }),
    }
}
