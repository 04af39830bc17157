//! `[files]` → files of the project as they are, mounted into services by their store paths, so that a service is made
//! anew exactly when one of its files changed. Below `/etc` they stand on the droplet itself.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Artifact, Entry, RenderError, Section, ServiceMount, Tree, literal};
use crate::model::Mode;
use crate::spec::Spec;

/// The kind `files`; what it renders stands in the spec.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {}

impl Section for Files {
    const KIND: &'static str = "files";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for Files {
    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        for file in spec.files.values() {
            for (below, content) in &file.contents {
                let target =
                    if below.is_empty() { file.target.clone() } else { format!("{}/{below}", file.target) };
                let path = match &file.service {
                    Some(service) => format!("files/{service}{target}"),
                    None => target.trim_start_matches('/').to_owned(),
                };
                let mut entry = Entry::text(Self::KIND, literal::path(&path)?, String::new()).bare();
                entry.content.clone_from(content);
                if file.executable {
                    entry.mode = Mode::Run;
                }
                let source = tree.insert(entry)?.absolute();
                if let Some(service) = &file.service {
                    tree.mount(service, ServiceMount { source, target });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fixture;
    use super::*;
    use crate::model::Slot;
    use crate::spec::ProjectFile;

    fn with(service: Option<&str>, target: &str, contents: &[(&str, &str)]) -> Tree {
        let mut spec = fixture::spec();
        let contents = contents.iter().map(|(below, text)| ((*below).to_owned(), text.as_bytes().to_vec()));
        let file = ProjectFile {
            service: service.map(|name| name.parse().unwrap()),
            target: target.to_owned(),
            contents: contents.collect(),
            executable: false,
        };
        spec.files = BTreeMap::from([("x".to_owned(), file)]);
        fixture::render(&spec)
    }

    #[test]
    fn a_file_is_mounted_as_it_is_and_a_directory_file_by_file() {
        let tree = with(Some("backend"), "/etc/app", &[("a.conf", "#!x\n"), ("b/c.conf", "y")]);
        let first = tree.get("files/backend/etc/app/a.conf", Slot::Blue).unwrap();
        assert_eq!(first.content, b"#!x\n");
        let blue = fixture::text(&tree, "compose/blue.yaml", Slot::Blue);
        assert!(
            blue.contains("target: /etc/app/a.conf") && blue.contains("target: /etc/app/b/c.conf"),
            "{blue}"
        );
        assert!(blue.contains(&first.store_path().absolute()), "{blue}");
    }

    #[test]
    fn a_changed_file_changes_its_service_and_a_file_of_the_droplet_none() {
        let release = |tree: &Tree| tree.release().unwrap();
        let (one, two) =
            (with(Some("backend"), "/a", &[("", "1")]), with(Some("backend"), "/a", &[("", "2")]));
        assert_ne!(release(&one), release(&two));
        let (one, two) = (with(None, "/etc/a", &[("", "1")]), with(None, "/etc/a", &[("", "2")]));
        assert_eq!(release(&one), release(&two));
        assert!(one.get("etc/a", Slot::Green).is_some());
    }
}
