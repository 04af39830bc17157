//! The JSON Schema of a profile: what `bundle schema` prints, editors complete by, and `docs/profile.md` is made from.
//!
//! One source for each word: the structs of the artifact kinds, the table of Compose keys, and [`words`] for the rest.
//! Draft 7, and nothing in it that stands elsewhere in the file (`$ref`): both editors' servers for TOML, Taplo and
//! Tombi, understand that completely.

mod image_words;
mod markdown;
mod services;
mod words;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema as _, SchemaGenerator};
use serde_json::{Map, Value as Json};

use super::lints::lints;
use crate::artifacts::Kind;

pub(in crate::profile) use markdown::toml as in_toml;
pub use markdown::{compose_keys, profile};

/// Which text a schema is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One file. Nothing is required in it, because a file that it extends, or that extends it, may say it.
    File,
    /// A profile with all that it extends merged in.
    Merged,
}

/// The schema of a profile whose artifact kinds are `kinds`.
pub fn schema(kinds: &[Kind], form: Form) -> Json {
    let mut generator = generator();
    let mut root = words::Profile::json_schema(&mut generator).to_value();
    if let Some(properties) = properties_of(&mut root) {
        for kind in kinds {
            let Some(table) = kind.table else { continue };
            properties.insert(table.to_owned(), (kind.schema)(&mut generator).to_value());
        }
    }
    plain(&mut root);
    if let Some(properties) = properties_of(&mut root) {
        properties.insert("services".to_owned(), services::schema());
        let lints: Vec<&str> = lints().into_iter().map(|lint| lint.name).collect();
        properties["allow"]["items"]["properties"]["lint"]["enum"] = lints.into();
    }
    match form {
        Form::File => forget_required(&mut root),
        Form::Merged => {
            if let Some(Json::Array(required)) = root.get_mut("required") {
                required.push("services".into());
            }
        }
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
        root.insert("title".to_owned(), "A profile of bundle".into());
        root.insert("description".to_owned(), "What a machine should be.".into());
    }
    root
}

/// The schema of a kind's table.
pub(in crate::profile) fn of_kind(kind: &Kind) -> Json {
    let mut schema = (kind.schema)(&mut generator()).to_value();
    plain(&mut schema);
    schema
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator()
}

fn properties_of(schema: &mut Json) -> Option<&mut Map<String, Json>> {
    schema.get_mut("properties")?.as_object_mut()
}

/// Takes out what TOML has no word for, and what only a Rust program would ask: null, and the width of integers. A map
/// whose keys have a rule says it as `propertyNames`, which editors look through.
fn plain(schema: &mut Json) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Json::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    for word in ["anyOf", "oneOf"] {
        let Some(Json::Array(options)) = object.get_mut(word) else { continue };
        options.retain(|option| option["type"] != "null");
        if let [only] = &options[..] {
            let only = only.clone();
            object.remove(word);
            merge(object, only);
        }
    }
    if let Some(Json::Array(options)) = object.get_mut("enum") {
        options.retain(|option| !option.is_null());
    }
    documented_enum(object);
    if object.get("default").is_some_and(Json::is_null) {
        object.remove("default");
    }
    object.remove("format");
    // A tuple, in the words of draft 7.
    if let Some(items) = object.remove("prefixItems") {
        object.insert("items".to_owned(), items);
        object.insert("additionalItems".to_owned(), false.into());
    }
    if let Some(Json::Object(patterns)) = object.get("patternProperties")
        && patterns.len() == 1
        && let Some((pattern, value)) = patterns.clone().into_iter().next()
    {
        object.remove("patternProperties");
        object.insert("propertyNames".to_owned(), serde_json::json!({ "pattern": pattern }));
        object.insert("additionalProperties".to_owned(), value);
    }
    for word in ["properties", "items", "additionalProperties", "anyOf", "oneOf", "allOf"] {
        match object.get_mut(word) {
            Some(Json::Object(inner)) if word == "properties" => inner.values_mut().for_each(plain),
            Some(Json::Array(inner)) => inner.iter_mut().for_each(plain),
            Some(inner) => plain(inner),
            None => {}
        }
    }
}

/// An enumeration whose variants have doc comments comes as `oneOf` with a `const` each; editors complete an `enum`.
fn documented_enum(object: &mut Map<String, Json>) {
    let Some(Json::Array(options)) = object.get("oneOf") else { return };
    let mut names = Vec::new();
    let mut meanings = Vec::new();
    for option in options {
        match (option.get("const"), option.get("enum")) {
            (Some(name), _) => {
                if let (Some(name), Some(about)) = (name.as_str(), option["description"].as_str()) {
                    meanings.push(format!("`{name}`: {about}"));
                }
                names.push(name.clone());
            }
            (None, Some(Json::Array(more))) => names.extend(more.iter().cloned()),
            _ => return,
        }
    }
    object.remove("oneOf");
    object.insert("type".to_owned(), "string".into());
    object.insert("enum".to_owned(), Json::Array(names));
    if !meanings.is_empty() {
        let said = object.get("description").and_then(Json::as_str).unwrap_or_default();
        let all = format!("{said}\n\n{}", meanings.join("\n"));
        object.insert("description".to_owned(), all.trim().into());
    }
}

/// What `object` does not say itself is said by `other`.
fn merge(object: &mut Map<String, Json>, other: Json) {
    let Json::Object(other) = other else { return };
    for (key, value) in other {
        object.entry(key).or_insert(value);
    }
}

/// Tables merge, so a table of one file may lack what another file says; what stands in an array is complete.
fn forget_required(schema: &mut Json) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("required");
    if let Some(Json::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(forget_required);
    }
    if let Some(inner) = object.get_mut("additionalProperties") {
        forget_required(inner);
    }
}

#[cfg(test)]
mod tests;
