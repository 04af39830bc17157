//! What reads a profile and what describes it are the same.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::super::compose_keys::{KEYS, Treatment};
use super::super::diagnostics::Diagnostics;
use super::super::merge::merge;
use super::super::read::ASKED;
use super::super::source::{Sources, Value};
use super::super::{Profile, load, service};
use super::*;
use crate::artifacts::KINDS;

/// A profile that has every table which no kind owns.
const EVERYTHING: &str = include_str!("everything.toml");

fn read(text: &str) -> (Profile, Diagnostics) {
    let mut sources = Sources::new("p.toml");
    sources.add("p.toml", text);
    sources.add("docker.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n");
    sources.add_contents("web/Dockerfile", [(String::new(), b"FROM scratch\n".to_vec())].into());
    let profile = Profile::parse(&sources, KINDS).unwrap_or_else(|faults| panic!("{faults}"));
    let faults = profile.faults().clone();
    (profile, faults)
}

/// A value as JSON Schema sees it.
pub(in crate::profile) fn json(value: &Value<'_>) -> Json {
    match value.get_ref() {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).unwrap().into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().unwrap().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(json).collect(),
        DeValue::Table(table) => {
            Json::Object(table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value))).collect())
        }
    }
}

/// The profile with what it extends merged in.
fn merged(path: &str) -> Json {
    let sources = load(path);
    let table = merge(&sources).unwrap_or_else(|faults| panic!("{faults}"));
    Json::Object(table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value))).collect())
}

fn validator(form: Form) -> jsonschema::Validator {
    let schema = schema(KINDS, form);
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::validator_for(&schema).unwrap()
}

fn complaints(validator: &jsonschema::Validator, instance: &Json) -> Vec<String> {
    validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The schema of the table that messages call `what`.
fn described<'s>(root: &'s Json, what: &str) -> Option<&'s Json> {
    if what == "the profile" {
        return Some(root);
    }
    let mut schema = root;
    // Names with dots in them are quoted.
    let mut quoted = false;
    let steps = what.strip_prefix('`')?.strip_suffix('`')?.split(move |letter| {
        quoted ^= letter == '"';
        letter == '.' && !quoted
    });
    for step in steps {
        schema = schema["properties"].get(step).or_else(|| schema.get("additionalProperties"))?;
    }
    // An item of a list is called as the list is.
    Some(schema.get("items").filter(|_| schema["type"] == "array").unwrap_or(schema))
}

#[test]
fn every_key_that_is_read_is_described_and_no_other() {
    ASKED.take();
    let (_, faults) = read(EVERYTHING);
    let all = ASKED.take();
    assert!(!faults.has_errors(), "{faults}");
    assert!(all.len() >= 15, "{:?}", all.keys());
    let root = schema(KINDS, Form::File);
    let kinds: BTreeSet<&str> = KINDS.iter().filter_map(|kind| kind.table).chain(["extends"]).collect();
    let carried = KEYS.iter().filter(|key| key.treatment == Treatment::Carried).map(|key| key.name);
    let carried: BTreeSet<&str> = carried.collect();
    for (what, asked) in &all {
        let schema = described(&root, what).unwrap_or_else(|| panic!("{what} is read and not described"));
        let known = schema["properties"].as_object().unwrap_or_else(|| panic!("{what}: {schema}"));
        let mut known: BTreeSet<&str> = known.keys().map(String::as_str).collect();
        let others = if what == "the profile" { &kinds } else { &carried };
        known.retain(|key| asked.contains(key) || !others.contains(key));
        let asked: BTreeSet<&str> = asked.iter().copied().collect();
        assert_eq!(asked, known, "{what}: read on the left, described on the right");
    }
}

#[test]
fn everything_that_is_described_has_a_meaning_and_shows_a_value() {
    fn look(at: &str, schema: &Json, silent: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else { return };
        for (name, value) in properties {
            let at = format!("{at}.{name}");
            let about = value["description"].as_str().unwrap_or_default();
            let table = value.get("properties").is_some() || value.get("additionalProperties").is_some();
            let free = value.get("type").is_none();
            let shown = ["default", "examples", "enum"].iter().any(|word| value.get(*word).is_some());
            let within_healthcheck = at.contains(".healthcheck.");
            if about.is_empty()
                || !(table || free || shown || within_healthcheck || value["type"] == "boolean")
            {
                silent.push(at.clone());
            }
            look(&at, value, silent);
            look(&at, &value["additionalProperties"], silent);
        }
    }
    let mut silent = Vec::new();
    look("", &schema(KINDS, Form::Merged), &mut silent);
    assert!(silent.is_empty(), "without a doc comment, or without default and `example`: {silent:#?}");
}

#[test]
fn shipped_profiles_are_valid_as_files_and_as_a_whole() {
    let (file, whole) = (validator(Form::File), validator(Form::Merged));
    for name in [
        "base",
        "development",
        "production",
        "staging",
        "media/base",
        "media/production",
        "media/staging",
        "vulcan/base",
        "vulcan/development",
        "vulcan/managed",
        "vulcan/production",
        "vulcan/self-hosted",
        "vulcan/staging",
    ] {
        let sources = load(&format!("profiles/{name}.toml"));
        let (table, errors) = sources.source(sources.root()).unwrap().parse();
        assert!(errors.is_empty());
        let table = table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value)));
        assert_eq!(complaints(&file, &Json::Object(table.collect())), [""; 0], "{name}");
    }
    for name in [
        "development",
        "production",
        "staging",
        "media/production",
        "media/staging",
        "vulcan/development",
        "vulcan/production",
        "vulcan/staging",
    ] {
        assert_eq!(complaints(&whole, &merged(&format!("profiles/{name}.toml"))), [""; 0], "{name}");
    }
}

/// Every instance that differs from `instance` in one place, by `change`, with that place.
fn changed(instance: &Json, change: &dyn Fn(&Json) -> Option<Json>) -> Vec<(String, Json)> {
    let mut all: Vec<(String, Json)> = change(instance).map(|new| (String::new(), new)).into_iter().collect();
    if let Json::Object(object) = instance {
        for (key, value) in object {
            for (at, new) in changed(value, change) {
                let mut object = object.clone();
                object.insert(key.clone(), new);
                all.push((format!(".{key}{at}"), Json::Object(object)));
            }
        }
    }
    all
}

#[test]
fn a_value_of_another_type_is_not_valid() {
    let whole = validator(Form::Merged);
    let instance = merged("profiles/production.toml");
    // A table where a string or a list is, a date's own type being none of JSON's.
    let other = |value: &Json| (!value.is_object()).then(|| serde_json::json!({ "no": { "such": [] } }));
    let all = changed(&instance, &other);
    assert!(all.len() > 100, "{}", all.len());
    for (at, instance) in all {
        assert!(!complaints(&whole, &instance).is_empty(), "{at} may be a table");
    }
}

#[test]
fn an_unknown_key_is_not_valid_where_keys_are_known() {
    let whole = validator(Form::Merged);
    let instance = merged("profiles/production.toml");
    let more = |value: &Json| {
        let mut object = value.as_object()?.clone();
        object.insert("Unheard".to_owned(), 1.into());
        Some(Json::Object(object))
    };
    let all = changed(&instance, &more);
    assert!(all.len() > 30, "{}", all.len());
    for (at, instance) in all {
        let free = at.ends_with(".environment");
        assert_eq!(complaints(&whole, &instance).is_empty(), free, "{at}");
    }
}

#[test]
fn what_must_be_there_is_required_of_the_whole_only() {
    let (file, whole) = (validator(Form::File), validator(Form::Merged));
    for path in [
        "domain",
        "environment",
        "droplet",
        "services",
        "droplet/size",
        "services/redis/image",
        "redis/service",
    ] {
        let mut instance = merged("profiles/production.toml");
        let (table, key) =
            path.rsplit_once('/').map_or((String::new(), path), |(table, key)| (format!("/{table}"), key));
        instance.pointer_mut(&table).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert!(!complaints(&whole, &instance).is_empty(), "{path}");
        assert_eq!(complaints(&file, &instance), [""; 0], "{path}");
    }
}

#[test]
fn every_example_of_a_compose_key_is_read() {
    for key in KEYS.iter().filter(|key| !key.example.is_empty()) {
        let image = if key.name == "image" { "" } else { "image = 'a:1'\n" };
        let user = if key.name == "secrets" { "user = '1:1'\n" } else { "" };
        let text = format!("[services.x]\n{image}{user}{} = {}\n", key.name, key.example);
        let (_, faults) = read(&text);
        let about: Vec<_> = faults.iter().filter(|fault| fault.message().contains("services.x")).collect();
        assert!(about.is_empty(), "{text}\n{about:#?}");
        let instance = serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
        assert_eq!(complaints(&validator(Form::File), &instance), [""; 0], "{text}");
    }
}

#[test]
fn a_refused_key_is_not_in_the_schema_and_says_what_to_write() {
    let schema = schema(KINDS, Form::File);
    let service = &schema["properties"]["services"]["additionalProperties"]["properties"];
    for key in KEYS.iter().filter(|key| key.treatment == Treatment::Refused) {
        assert!(service.get(key.name).is_none(), "{}", key.name);
        let mut sources = Sources::new("p.toml");
        sources.add("p.toml", &format!("image = 'a:1'\n{} = 1\n", key.name));
        let (table, _) = sources.source("p.toml").unwrap().parse();
        let mut faults = Diagnostics::new(&sources);
        service::read("x", 0..1, &table, &mut faults);
        let said = faults.iter().next().unwrap();
        assert_eq!(said.hints(), [key.about], "{}", key.name);
    }
}
