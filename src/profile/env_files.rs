//! `[env_files."NAME"]`: files of variables for services that read their configuration from the environment only.
//!
//! A service names them in Compose's own `env_file`. They are put together on the droplet, from templates, and belong to
//! root alone; a name that is an absolute path is also where people find the file.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{SecretFile, SecretName, Template};
use crate::spec::EnvFile;

use super::compose_value::literal_pairs;
use super::diagnostics::Diagnostics;
use super::read::{Fields, key_text, unknown};
use super::schema::Profile;
use super::source::{Span, Table};

/// An env file and its places.
#[derive(Debug, Clone)]
pub(crate) struct PlacedEnvFile {
    /// The place of its name.
    pub(crate) span: Span,
    pub(crate) file: EnvFile,
    /// Each secret that its values name, and where.
    pub(crate) references: Vec<(SecretName, Span)>,
}

/// Reads one.
pub(crate) fn read(name: &str, span: Span, table: &Table<'_>, faults: &mut Diagnostics) -> PlacedEnvFile {
    named(name, &span, faults);
    let mut fields = Fields::new(format!("`env_files.{}`", key_text(name)), table, faults);
    fields.require(
        "values",
        Some(span.clone()),
        "a table of variables, such as `values = { DEBUG = \"false\" }`",
    );
    let reason = fields.string("allow_env");
    let mut placed = PlacedEnvFile { span, file: EnvFile::default(), references: Vec::new() };
    if let Some(value) = fields.get("values") {
        let what = fields.name_of("values");
        for (key, span, text) in literal_pairs(fields.faults, &what, value).unwrap_or_default() {
            if !is_variable(&key) {
                fields
                    .faults
                    .error(span, format!("`{key}` is not the name of a variable"))
                    .help("it has letters, digits and `_`, and does not begin with a digit");
                continue;
            }
            match Template::parse(&text) {
                Ok(template) => {
                    placed
                        .references
                        .extend(template.references().map(|(name, _)| (name.clone(), span.clone())));
                    placed.file.values.insert(key, template);
                }
                Err(error) => {
                    fields.faults.error(span, error.to_string()).help(
                        "a value may have `{{ name }}`, `{{ name | urlencode }}` and `{{ name | sha256 }}` of secrets",
                    );
                }
            }
        }
    }
    match (&reason, placed.references.first()) {
        (None, Some((secret, at))) => {
            fields
                .faults
                .error(at.clone(), format!("the secret `{secret}` would be seen by `docker inspect`"))
                .label("becomes a variable of a container")
                .help(
                    "give it as a file in the service's `secrets`; where the program reads the environment only, say so: \
                     `allow_env = \"why\"`",
                );
        }
        (Some(reason), _) if reason.get_ref().trim().is_empty() => {
            fields.faults.error(reason.span(), "`allow_env` must say why").help(
                "secrets in the environment are seen by everybody who may ask Docker: say why there is no other way",
            );
        }
        _ => {}
    }
    fields.finish();
    placed
}

/// Reports a name that is neither a plain file name nor a path at which we may put a link.
fn named(name: &str, span: &Span, faults: &mut Diagnostics) {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.len() <= 63
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !plain(name) && !SecretFile::may_link(name) {
        faults
            .error(span.clone(), format!("`{name}` is not a place for an env file"))
            .help("write a file name such as `backend.env`, or a path below `/opt` or `/srv` such as `/opt/app/env/backend.env`");
    }
}

/// POSIX.1-2024, Base Definitions, 3.216: a name.
fn is_variable(key: &str) -> bool {
    !key.is_empty()
        && !key.starts_with(|c: char| c.is_ascii_digit())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Checks that services find the files that they name.
pub(crate) fn check(profile: &Profile, faults: &mut Diagnostics) {
    let known: BTreeSet<&str> = profile.env_files.keys().map(String::as_str).collect();
    for service in profile.services.values() {
        for name in &service.env_files {
            if !known.contains(name.get_ref().as_str()) {
                let message = format!("there is no `[env_files.{}]`", key_text(name.get_ref()));
                unknown(faults, name.span(), &message, name.get_ref(), &known);
            }
        }
    }
}

/// What the renderers get.
pub(crate) fn resolved(profile: &Profile) -> BTreeMap<String, EnvFile> {
    profile.env_files.iter().map(|(name, placed)| (name.clone(), placed.file.clone())).collect()
}
