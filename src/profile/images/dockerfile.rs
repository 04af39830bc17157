//! `dockerfile` and what belongs to it: an image that a builder of others makes, instead of a recipe.

use toml::Spanned;
use toml::de::DeValue;

use super::super::read::{Fields, as_string, wrong_type};
use super::super::source::{Source, Span, Table, resolve_path};
use super::config;
use crate::spec::{Copy, DockerfileRecipe};

/// A Dockerfile with its context, and its place.
#[derive(Debug, Clone)]
pub(crate) struct PlacedDockerfile {
    /// Its path as the builder opens it, where the profile says it.
    pub(crate) path: Spanned<String>,
    /// What it is built from.
    pub(crate) recipe: DockerfileRecipe,
}

/// The keys that make an image by hand.
const BY_HAND: [&str; 17] = [
    "base",
    "packages",
    "accept_scripts",
    "exclude",
    "layers",
    "users",
    "directories",
    "links",
    "user",
    "env",
    "entrypoint",
    "cmd",
    "workdir",
    "ports",
    "volumes",
    "stop_signal",
    "labels",
];
/// The keys that say how a Dockerfile is built.
const OF_DOCKERFILE: [&str; 3] = ["context", "target", "args"];
/// Where a Dockerfile that lies elsewhere stands in the context.
const GUEST: &str = ".bundle.dockerfile";

/// The Dockerfiles that a source names, and what a context may have beside them that is not read; for the loader.
pub(crate) fn named(source: &Source) -> Vec<(String, String)> {
    let (table, _) = source.parse();
    let images = table.get("images").and_then(|value| value.get_ref().as_table());
    let named = images.into_iter().flatten().filter_map(|(_, value)| {
        let image = value.get_ref().as_table()?;
        let dockerfile = resolve_path(&source.path, image.get("dockerfile")?.get_ref().as_str()?);
        let context = image.get("context").and_then(|context| match context.get_ref() {
            DeValue::Table(table) => table.get("from")?.get_ref().as_str(),
            other => other.as_str(),
        });
        let context =
            context.map_or_else(|| folder(&dockerfile).to_owned(), |path| resolve_path(&source.path, path));
        Some((dockerfile, ignored(&context)))
    });
    named.collect()
}

/// The file by which Docker's own command leaves files out of a context.
pub(crate) fn ignored(context: &str) -> String {
    resolve_path(&format!("{context}/x"), ".dockerignore")
}

/// Reads the keys of a Dockerfile; `None` if there is none, or if it is wrong.
pub(super) fn read(
    fields: &mut Fields<'_, '_>,
    table: &Table<'_>,
    architectures: &[String],
) -> Option<PlacedDockerfile> {
    let dockerfile = fields.string("dockerfile");
    let target = fields.string("target").map(Spanned::into_inner);
    let args = config::pairs(fields, "args");
    let context = context(fields);
    if let Some(text) = &dockerfile {
        foreign(fields, table, &BY_HAND, |name| {
            (
                format!("{name} makes an image by hand, and this one is made by its `dockerfile`"),
                "say it in the Dockerfile, or take `dockerfile` out",
                Some(text.span()),
            )
        });
    } else if !table.contains_key("dockerfile") {
        foreign(fields, table, &OF_DOCKERFILE, |name| {
            (
                format!("{name} says how a Dockerfile is built, and there is none"),
                "name it: `dockerfile = \"app/Dockerfile\"`",
                None,
            )
        });
    }
    let text = dockerfile?;
    let from = fields.faults.sources().at(text.span().start)?.path.clone();
    let path = resolve_path(&from, text.get_ref());
    let sources = fields.faults.sources();
    if sources.contents(&path).is_none() {
        let reason = sources.unreadable(&path).unwrap_or("there is no such file").to_owned();
        fields
            .faults
            .error(text.span(), format!("`{path}` cannot be read: {reason}"))
            .help("the path is relative to the file that it stands in");
        return None;
    }
    let mut context = context?;
    if context.from.as_os_str().is_empty() {
        context.from = folder(&path).into();
    }
    let inside = below(&path, &context.from.to_string_lossy()).unwrap_or_else(|| GUEST.to_owned());
    let recipe = DockerfileRecipe {
        dockerfile: path.clone().into(),
        inside,
        context,
        target,
        args,
        architectures: architectures.to_vec(),
    };
    Some(PlacedDockerfile { path: Spanned::new(text.span(), path), recipe })
}

/// Says of each of these keys that is there why it may not be.
fn foreign(
    fields: &mut Fields<'_, '_>,
    table: &Table<'_>,
    keys: &[&str],
    say: impl Fn(String) -> (String, &'static str, Option<Span>),
) {
    for (key, _) in table.iter().filter(|(key, _)| keys.contains(&&**key.get_ref())) {
        let (message, help, also) = say(fields.name_of(key.get_ref()));
        let fault = fields.faults.error(key.span(), message);
        fault.help(help);
        if let Some(place) = also {
            fault.also(place, "the Dockerfile");
        }
    }
}

/// What is in the context; an empty path for the folder of the Dockerfile.
fn context(fields: &mut Fields<'_, '_>) -> Option<Copy> {
    let everything = Copy { to: "/".to_owned(), ..Copy::default() };
    let Some(value) = fields.get("context") else { return Some(everything) };
    let what = fields.name_of("context");
    let resolved = |fields: &Fields<'_, '_>, text: Spanned<String>| {
        let from = fields.faults.sources().at(text.span().start)?.path.clone();
        let path = resolve_path(&from, text.get_ref());
        Some(if path.is_empty() { ".".into() } else { path.into() })
    };
    match value.get_ref() {
        DeValue::String(_) => {
            let text = as_string(fields.faults, &what, value)?;
            Some(Copy { from: resolved(fields, text)?, ..everything })
        }
        DeValue::Table(table) => {
            let mut inner = Fields::new(what, table, fields.faults);
            let from = inner.string("from");
            let copy = Copy {
                include: inner.list("include").into_iter().map(Spanned::into_inner).collect(),
                exclude: inner.list("exclude").into_iter().map(Spanned::into_inner).collect(),
                ..everything
            };
            let from = match from {
                Some(text) => resolved(&inner, text)?,
                None => copy.from.clone(),
            };
            inner.finish();
            Some(Copy { from, ..copy })
        }
        _ => {
            wrong_type(fields.faults, &what, value, "a path or a table").help(
                "write `context = \"app\"`, or `context = { from = \"app\", exclude = [\"**/tests\"] }`",
            );
            None
        }
    }
}

/// The folder that a file is in.
fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => ".",
    }
}

/// A path as seen from a folder that it is below, as far as that can be told from their spelling.
fn below(path: &str, folder: &str) -> Option<String> {
    let inside = match folder {
        "." if path.starts_with('/') || path.starts_with("../") => None,
        "." => Some(path),
        _ => path.strip_prefix(folder.trim_end_matches('/'))?.strip_prefix('/'),
    };
    inside.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_is_found_in_its_context_by_its_spelling() {
        for (path, folder, inside) in [
            ("app/Dockerfile", "app", Some("Dockerfile")),
            ("app/docker/Dockerfile", "app", Some("docker/Dockerfile")),
            ("Dockerfile", ".", Some("Dockerfile")),
            (".docker/Dockerfile", ".", Some(".docker/Dockerfile")),
            ("../Dockerfile", ".", None),
            ("../app/Dockerfile", "../app", Some("Dockerfile")),
            ("/srv/app/Dockerfile", "/", Some("srv/app/Dockerfile")),
            ("/srv/app/Dockerfile", ".", None),
            ("docker/Dockerfile", "app", None),
            ("application/Dockerfile", "app", None),
        ] {
            assert_eq!(below(path, folder).as_deref(), inside, "{path} in {folder}");
        }
        assert_eq!((folder("a/b/c"), folder("c"), folder("/c")), ("a/b", ".", "/"));
        assert_eq!(ignored("app"), "app/.dockerignore");
        assert_eq!(ignored("."), ".dockerignore");
    }
}
