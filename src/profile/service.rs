//! One `[services.NAME]` table: Compose's own terms and spelling, checked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::DeValue;

use crate::model::{SecretName, ServiceName, User};
use crate::spec::Volume;

use super::compose_keys::{carried_keys, is_carried, refusal, shapes};
use super::compose_value::{bytes, pairs, shaped, spelled, untouched};
use super::diagnostics::Diagnostics;
use super::read::{Fields, as_array, as_string, as_table, key_text, parse, unknown, wrong_type};
use super::source::{Span, Table, Value};
use super::units::{ImageReference, ServiceImage};

const CONDITIONS: [&str; 3] = ["service_started", "service_healthy", "service_completed_successfully"];

/// A service as the profile has it. What was wrong is absent here and has been reported.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// The place of its name.
    pub(crate) span: Span,
    pub(crate) image: Option<Spanned<ImageReference>>,
    pub(crate) user: Option<User>,
    pub(crate) secrets: Vec<Spanned<SecretName>>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) env_files: Vec<Spanned<String>>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) depends_on: BTreeMap<ServiceName, Spanned<String>>,
    /// `mem_limit` in bytes; `None` if there is none, zero if what there is has been reported.
    pub(crate) memory: Option<u64>,
    pub(crate) compose: Map<String, Json>,
}

/// Reads a service.
pub(crate) fn read(name: &str, span: Span, table: &Table<'_>, faults: &mut Diagnostics) -> Service {
    let mut fields = Fields::new(format!("`services.{}`", key_text(name)), table, faults);
    fields.require("image", Some(span.clone()), "`image = \"NAME:TAG\"`");
    let mut compose = Map::new();
    for (key, shape) in shapes() {
        let Some(value) = fields.get(key) else { continue };
        let what = fields.name_of(key);
        compose.extend(shaped(fields.faults, &what, value, shape).map(|json| (key.to_owned(), json)));
    }
    let mut service = Service {
        span,
        image: fields
            .parsed::<ServiceImage>("image")
            .map(|image| Spanned::new(image.span(), image.into_inner().0)),
        user: None,
        secrets: secrets(&mut fields),
        environment: environment(&mut fields),
        env_files: env_files(&mut fields),
        volumes: volumes(&mut fields),
        depends_on: depends_on(&mut fields),
        memory: table
            .contains_key("mem_limit")
            .then(|| compose.get("mem_limit").and_then(bytes).unwrap_or_default()),
        compose,
    };
    user(&mut fields, &mut service);
    labels(&mut fields, &service);
    rest(name, table, fields, &mut service.compose);
    service
}

/// The keys that are carried over, refused, or unknown.
fn rest(name: &str, table: &Table<'_>, fields: Fields<'_, '_>, compose: &mut Map<String, Json>) {
    let mut others: Vec<&str> = Vec::new();
    for (key, value) in table {
        let text: &str = key.get_ref();
        if let Some(hint) = refusal(text) {
            fields
                .faults
                .error(key.span(), format!("`{text}` is not the profile's to say"))
                .label(format!("in service `{name}`"))
                .help(hint);
            others.push(text);
        } else if is_carried(text) {
            compose.extend(untouched(fields.faults, value).map(|json| (text.to_owned(), json)));
            others.push(text);
        }
    }
    for key in carried_keys() {
        others.push(key);
    }
    fields.finish_with("key", &others);
}

/// `user`: numeric IDs become the owner of the service's secret files; a name can only be passed on.
fn user(fields: &mut Fields<'_, '_>, service: &mut Service) {
    let Some(user) = fields.string("user") else {
        if let (false, Some(first)) = (fields.get("user").is_some(), service.secrets.first()) {
            fields
                .faults
                .error(first.span(), "a service with secrets must say its `user`")
                .label("read by a user that is not known")
                .also(service.span.clone(), "this service")
                .help("write `user = \"UID:GID\"` with the numbers of the image's user: its secrets are files with that owner");
        }
        return;
    };
    let numeric = user.get_ref().split_once(':').and_then(|(uid, gid)| {
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
        Some(User { uid: plain(uid)?, gid: plain(gid)? })
    });
    match (numeric, service.secrets.first()) {
        (Some(numeric), _) => service.user = Some(numeric),
        (None, Some(secret)) => {
            fields
                .faults
                .error(
                    user.span(),
                    format!("`user` must be numeric in a service with secrets, not `{}`", user.get_ref()),
                )
                .label("expected `UID:GID`")
                .also(secret.span(), "this secret becomes a file with that owner")
                .help("write the numbers that the image gives to this user, such as `user = \"999:999\"`");
        }
        (None, None) => {
            if let Some(name) = spelled(fields.faults, user.span(), user.get_ref()) {
                service.compose.insert("user".to_owned(), name.into());
            }
        }
    }
}

/// Labels of ours and of Compose are not the profile's.
fn labels(fields: &mut Fields<'_, '_>, service: &Service) {
    let Some(Json::Object(labels)) = service.compose.get("labels") else { return };
    let taken = |key: &&String| key.starts_with("bundle.") || key.starts_with("com.docker.compose.");
    let names: Vec<&String> = labels.keys().filter(taken).collect();
    if let (Some(name), Some(value)) = (names.first(), fields.get("labels")) {
        fields.faults.error(value.span(), format!("label `{name}` is not the profile's to say")).help(
            "labels that begin with `bundle.` or `com.docker.compose.` are given by the tools themselves",
        );
    }
}

fn secrets(fields: &mut Fields<'_, '_>) -> Vec<Spanned<SecretName>> {
    if let Some(items) = fields.get("secrets").and_then(|value| value.get_ref().as_array())
        && let Some(long) = items.iter().find(|item| item.get_ref().is_table())
    {
        fields
            .faults
            .error(long.span(), "`secrets` takes names only")
            .help("a secret is a file `/run/secrets/NAME` that belongs to the service's `user`");
        return Vec::new();
    }
    fields.list("secrets")
}

fn environment(fields: &mut Fields<'_, '_>) -> BTreeMap<String, String> {
    let Some(value) = fields.get("environment") else { return BTreeMap::new() };
    let what = fields.name_of("environment");
    let pairs = pairs(fields.faults, &what, value).unwrap_or_default();
    let mut environment = BTreeMap::new();
    for (key, span, text) in pairs {
        if key.starts_with("BUNDLE_") {
            fields
                .faults
                .error(span, format!("`{key}` is not the profile's to say"))
                .help("variables that begin with `BUNDLE_` tell a service its release and environment");
            continue;
        }
        environment.insert(key, text);
    }
    environment
}

/// One name or a list of them.
fn env_files(fields: &mut Fields<'_, '_>) -> Vec<Spanned<String>> {
    match fields.get("env_file") {
        Some(value) if value.get_ref().is_str() => fields.string("env_file").into_iter().collect(),
        Some(_) => fields.list("env_file"),
        None => Vec::new(),
    }
}

fn volumes(fields: &mut Fields<'_, '_>) -> Vec<Volume> {
    let Some(value) = fields.get("volumes") else { return Vec::new() };
    let what = fields.name_of("volumes");
    let items = as_array(fields.faults, &what, value).unwrap_or_default();
    let mut volumes: Vec<Volume> = Vec::new();
    let mut targets: BTreeMap<String, Span> = BTreeMap::new();
    for item in items {
        let Some(volume) = volume(fields.faults, &what, item) else { continue };
        if let Some(first) = targets.insert(volume.target.clone(), item.span()) {
            let message = format!("{what} mounts `{}` twice", volume.target);
            fields.faults.error(item.span(), message).also(first, "first here");
        } else if format!("{}/", volume.target).starts_with("/run/secrets/") {
            fields
                .faults
                .error(item.span(), "`/run/secrets` belongs to the service's secrets")
                .help("name them in `secrets`, or mount this elsewhere");
        } else {
            volumes.push(volume);
        }
    }
    volumes
}

/// Compose's short syntax, `SOURCE:TARGET[:ro]`.
fn volume(faults: &mut Diagnostics, what: &str, item: &Value<'_>) -> Option<Volume> {
    if item.get_ref().is_table() {
        faults
            .error(item.span(), format!("{what} takes Compose's short syntax only"))
            .help("write `\"NAME:/path\"`, or `\"NAME:/path:ro\"`");
        return None;
    }
    let text = as_string(faults, &format!("an item of {what}"), item)?;
    let mut parts = text.get_ref().split(':');
    let (source, target, options) = (parts.next()?, parts.next(), parts.next());
    let (message, hint) = match target {
        _ if source.starts_with(['.', '~']) || (source.contains('/') && !source.starts_with('/')) => (
            format!("`{source}` is a path relative to nothing: a droplet has no copy of this directory"),
            "write the name of a volume, or an absolute path of the droplet",
        ),
        None => (
            format!(
                "the volume at `{source}` has no name, so that its data would be lost with the container"
            ),
            "write `\"NAME:/path\"`",
        ),
        Some(target) if [source, target].iter().any(|path| climbs(path)) => {
            (format!("`{}` has `..` in a path", text.get_ref()), "write the path that it leads to")
        }
        Some(target) if !target.starts_with('/') => {
            (format!("`{target}` is not an absolute path"), "write `\"NAME:/path\"`, or `\"NAME:/path:ro\"`")
        }
        Some(target) => match (source_is_sound(source), options, parts.next()) {
            (true, None | Some("ro" | "rw"), None) => {
                return Some(Volume {
                    source: spelled(faults, text.span(), source)?,
                    target: spelled(faults, text.span(), target)?,
                    read_only: options == Some("ro"),
                });
            }
            (false, ..) => (
                format!("`{source}` is neither the name of a volume nor an absolute path"),
                "a name has letters, digits, `_`, `.` and `-`",
            ),
            _ => (format!("`{}` has unknown options", text.get_ref()), "there are `ro` and `rw`"),
        },
    };
    faults.error(text.span(), message).help(hint);
    None
}

/// Whether a path goes up: where it ends depends on links on the machine.
fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

fn source_is_sound(source: &str) -> bool {
    source.starts_with('/')
        || (source.starts_with(|c: char| c.is_ascii_alphanumeric())
            && source.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)))
}

fn depends_on(fields: &mut Fields<'_, '_>) -> BTreeMap<ServiceName, Spanned<String>> {
    let Some(value) = fields.get("depends_on") else { return BTreeMap::new() };
    match value.get_ref() {
        DeValue::Table(table) => {
            table.iter().filter_map(|(key, value)| dependency(fields.faults, key, value)).collect()
        }
        DeValue::Array(_) => {
            let started = |name: Spanned<ServiceName>| {
                let span = name.span();
                (name.into_inner(), Spanned::new(span, CONDITIONS[0].to_owned()))
            };
            fields.list("depends_on").into_iter().map(started).collect()
        }
        _ => {
            wrong_type(fields.faults, "`depends_on`", value, "a list of services, or a table of them");
            BTreeMap::new()
        }
    }
}

fn dependency(
    faults: &mut Diagnostics,
    key: &Spanned<toml::de::DeString<'_>>,
    value: &Value<'_>,
) -> Option<(ServiceName, Spanned<String>)> {
    let name = parse::<ServiceName>(faults, &Spanned::new(key.span(), key.get_ref().to_string()))?;
    let what = format!("`depends_on.{}`", name.get_ref());
    let table = as_table(faults, &what, value)?;
    let mut fields = Fields::new(what, table, faults);
    fields.require("condition", Some(key.span()), "`condition = \"service_healthy\"`");
    let condition = fields.string("condition");
    if let Some(condition) = &condition
        && !CONDITIONS.contains(&condition.get_ref().as_str())
    {
        let message = format!("unknown condition `{}`", condition.get_ref());
        let known = BTreeSet::from(CONDITIONS);
        unknown(fields.faults, condition.span(), &message, condition.get_ref(), &known);
    }
    fields.finish();
    Some((name.into_inner(), Spanned::new(key.span(), condition?.into_inner())))
}
