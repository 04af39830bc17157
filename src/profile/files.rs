//! `[files."SERVICE:/path"]`: files of the project that travel in the bundle and are mounted into a service, as a Compose
//! file mounts `./conf/app.conf`; and `[files."/etc/…"]`: the same for the droplet itself.

use std::collections::BTreeMap;

use crate::model::ServiceName;
use crate::spec::ProjectFile;

use super::diagnostics::Diagnostics;
use super::read::{Fields, key_text, unknown};
use super::schema::Profile;
use super::source::{Source, Span, Table, resolve_path};

/// A file, or a directory of files, and its place.
#[derive(Debug, Clone)]
pub(crate) struct PlacedFile {
    /// The place of its name.
    pub(crate) span: Span,
    pub(crate) file: ProjectFile,
}

/// The paths that a source names, as far as they can be made out; for the loader, which reads them.
pub(crate) fn named(source: &Source) -> Vec<String> {
    let (table, _) = source.parse();
    let files = table.get("files").and_then(|value| value.get_ref().as_table());
    let named = files.into_iter().flatten().filter_map(|(_, value)| {
        Some(resolve_path(&source.path, value.get_ref().as_table()?.get("source")?.get_ref().as_str()?))
    });
    named.collect()
}

/// Reads one.
pub(crate) fn read(
    name: &str,
    span: Span,
    table: &Table<'_>,
    faults: &mut Diagnostics,
) -> Option<PlacedFile> {
    let place = place(name, &span, faults);
    let mut fields = Fields::new(format!("`files.{}`", key_text(name)), table, faults);
    let source = fields.string("source");
    let content = fields.string("content");
    let executable = fields.boolean("executable").unwrap_or_default();
    let contents = match (source, content) {
        (Some(source), Some(content)) => {
            fields
                .faults
                .error(content.span(), "a file has either `source` or `content`")
                .also(source.span(), "the other");
            None
        }
        (None, Some(content)) => Some(BTreeMap::from([(String::new(), content.into_inner().into_bytes())])),
        (Some(source), None) => {
            let sources = fields.faults.sources();
            let from = sources.at(source.span().start)?.path.clone();
            let path = resolve_path(&from, source.get_ref());
            let found = sources.contents(&path).cloned();
            if found.is_none() {
                let reason = sources.unreadable(&path).unwrap_or("there is no such file").to_owned();
                fields
                    .faults
                    .error(source.span(), format!("`{path}` cannot be read: {reason}"))
                    .help("the path is relative to the file that it stands in");
            }
            found
        }
        (None, None) => {
            fields.require(
                "source",
                Some(span.clone()),
                "`source = \"conf/app.conf\"`, or `content = \"…\"`",
            );
            None
        }
    };
    fields.finish();
    let (service, target) = place?;
    Some(PlacedFile { span, file: ProjectFile { service, target, contents: contents?, executable } })
}

/// `SERVICE:/path`, or a path below `/etc`.
fn place(name: &str, span: &Span, faults: &mut Diagnostics) -> Option<(Option<ServiceName>, String)> {
    let (service, target) = match name.split_once(':') {
        Some((service, target)) => (Some(service), target),
        None => (None, name),
    };
    let clean =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
    let sound = target.strip_prefix('/').is_some_and(|rest| rest.split('/').all(clean))
        && target.len() <= 150
        && !target.contains(['\\', '$', ':']);
    if !sound {
        faults
            .error(span.clone(), format!("`{name}` is not a place for a file"))
            .help("write the service and an absolute path in it, such as `[files.\"web:/etc/app.conf\"]`");
        return None;
    }
    if service.is_some() && format!("{target}/").starts_with("/run/secrets/") {
        faults
            .error(span.clone(), "`/run/secrets` belongs to the service's secrets")
            .help("name them in `secrets`, or mount this elsewhere");
        return None;
    }
    if service.is_none() && !target.starts_with("/etc/") {
        faults
            .error(span.clone(), format!("`{target}` is not below `/etc`"))
            .help("a file of the droplet itself goes below `/etc`; for a service write `SERVICE:/path`");
        return None;
    }
    match service.map(str::parse::<ServiceName>).transpose() {
        Ok(service) => Some((service, target.to_owned())),
        Err(error) => {
            faults.error(span.clone(), error.to_string());
            None
        }
    }
}

/// Checks that the services are there, and that nothing else is mounted at the same place.
pub(crate) fn check(profile: &Profile, faults: &mut Diagnostics) {
    let mut taken: BTreeMap<String, &Span> = BTreeMap::new();
    for placed in profile.files.values() {
        for place in seen(placed) {
            if let Some(first) = taken.insert(place.clone(), &placed.span) {
                faults
                    .error(
                        placed.span.clone(),
                        format!("`{}` has two contents", place.trim_start_matches(':')),
                    )
                    .also(first.clone(), "the other");
                break;
            }
        }
        let Some(name) = &placed.file.service else { continue };
        let Some(service) = profile.services.get(name) else {
            let known = profile.services.keys().map(ServiceName::as_str).collect();
            unknown(
                faults,
                placed.span.clone(),
                &format!("there is no service `{name}`"),
                name.as_str(),
                &known,
            );
            continue;
        };
        if service.volumes.iter().any(|volume| volume.target == placed.file.target) {
            faults
                .error(placed.span.clone(), format!("`{name}` has a volume at `{}`", placed.file.target))
                .also(service.span.clone(), "this service");
        }
    }
}

/// Where each file of the profile is seen, as `SERVICE:/path`.
fn seen(placed: &PlacedFile) -> impl Iterator<Item = String> {
    let place = placed.file.service.as_ref().map_or_else(String::new, ServiceName::to_string);
    let below = |below: &String| if below.is_empty() { String::new() } else { format!("/{below}") };
    placed.file.contents.keys().map(move |path| format!("{place}:{}{}", placed.file.target, below(path)))
}

/// What the renderers get.
pub(crate) fn resolved(profile: &Profile) -> BTreeMap<String, ProjectFile> {
    profile.files.iter().map(|(name, placed)| (name.clone(), placed.file.clone())).collect()
}
