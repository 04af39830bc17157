//! `env_files` → a template for each, which the droplet fills in: Compose's `env_file` reads what comes out.
//!
//! The values stand in double quotes, escaped as Compose's reader of such files takes them (docs.docker.com, "Syntax for
//! environment files"), so that what a secret holds is never read as anything but a value.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Artifact, Entry, RenderError, Section, Tree, literal};
use crate::model::{SecretFile, SecretSource, User};
use crate::spec::{EnvFile, Spec};

/// The kind `env_files`; what it renders stands in the spec.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvFiles {}

impl Section for EnvFiles {
    const KIND: &'static str = "env_files";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for EnvFiles {
    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        for (name, file) in &spec.env_files {
            let path = literal::path(&format!("env/{}.template", flat(name)))?;
            let template = tree.insert(Entry::text(Self::KIND, path, text(file)))?;
            tree.secret_file(SecretFile {
                path: literal::path(&format!("{DIRECTORY}/{}", flat(name)))?,
                source: SecretSource::Template(template),
                // Compose runs as root and hands the values over; nobody else reads the file.
                owner: User { uid: 0, gid: 0 },
                link: name.starts_with('/').then(|| name.clone()),
            })?;
        }
        Ok(())
    }
}

/// Where Compose reads the file `name`.
pub(super) fn path(name: &str) -> String {
    format!("{}/{DIRECTORY}/{}", SecretFile::DIRECTORY, flat(name))
}

/// No service is called so: names begin with a letter or a digit.
const DIRECTORY: &str = "_env";

/// A path as one file name.
fn flat(name: &str) -> String {
    name.trim_start_matches('/').replace('/', "-")
}

fn text(file: &EnvFile) -> String {
    let mut text = String::new();
    for (key, template) in &file.values {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{key}=\"{}\"", template.in_env_file());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::{Slot, Template};

    #[test]
    fn a_file_in_its_place_read_by_its_service() {
        let mut spec = fixture::spec();
        let values =
            [("PLAIN", r#"a "b" $c \d"#), ("URL", "postgres://u:{{ redis_password | urlencode }}@h")];
        let values = values.map(|(key, text)| (key.to_owned(), Template::parse(text).unwrap()));
        let name = "/opt/app/env/backend.env".to_owned();
        spec.env_files.insert(name.clone(), EnvFile { values: values.into() });
        spec.services.get_mut("backend").unwrap().env_files.push(name);
        let tree = fixture::render(&spec);
        let template = fixture::text(&tree, "env/opt-app-env-backend.env.template", Slot::Blue);
        let lines: Vec<&str> = template.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                r#"PLAIN="a \"b\" \$c \\d""#,
                r#"URL="postgres://u:{{ redis_password | urlencode | dotenv }}@h""#
            ]
        );
        let file = tree.secret_files().find(|file| file.link.is_some()).unwrap();
        assert_eq!(file.link.as_deref(), Some("/opt/app/env/backend.env"));
        let blue = fixture::text(&tree, "compose/blue.yaml", Slot::Blue);
        assert!(blue.contains("path: /run/bundle/secrets/_env/opt-app-env-backend.env"), "{blue}");
        assert!(blue.contains("bundle.template.opt-app-env-backend.env:"), "{blue}");
    }
}
