//! What can only be seen in the rendered files.

use crate::artifacts::Tree;

use super::super::diagnostics::Severity;
use super::{Lint, Look, Report, Table};

pub(super) const LINTS: Table = &[
    Lint {
        name: "user-data-size",
        level: Severity::Warning,
        reason: "DigitalOcean takes 64 KiB of user-data and refuses to make the droplet with more: near it, the next line breaks it",
        look: Look::Files(user_data_size),
    },
    Lint {
        name: "user-data-not-ascii",
        level: Severity::Error,
        reason: "some datasources of cloud-init corrupt what is not plain text, and the first boot would read something else",
        look: Look::Files(user_data_not_ascii),
    },
];

/// The two blanks that are filled in later, the bundle's digest and the activator's, are as long as what fills them, or
/// nearly so: this leaves room for more than that.
const MOST: usize = 60_000;

const PATH: &str = "cloud-init/user-data";

fn user_data(tree: &Tree) -> Option<&[u8]> {
    tree.entries().find(|entry| entry.path.as_str() == PATH).map(|entry| entry.content.as_slice())
}

fn user_data_size(tree: &Tree, report: &mut Report) {
    if let Some(text) = user_data(tree)
        && text.len() > MOST
    {
        report
            .whole(PATH, format!("the user-data has {} bytes, and a droplet takes 65536", text.len()))
            .help("what is large in it is what the profile names: certificates of `[registry]`, the key of `[docker.repository]`, `ssh_from`");
    }
}

fn user_data_not_ascii(tree: &Tree, report: &mut Report) {
    if user_data(tree).is_some_and(|text| !text.is_ascii()) {
        report
            .whole(PATH, "the user-data is not plain ASCII")
            .help("this is a fault of `bundle`: please report it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifacts::Entry;

    fn found(look: fn(&Tree, &mut Report), text: &str) -> usize {
        let mut tree = Tree::default();
        tree.insert(Entry::text("cloud-init", PATH.parse().unwrap(), text.to_owned())).unwrap();
        let root = "p.toml".to_owned();
        let mut report = Report { lint: "x", level: Severity::Warning, root, found: Vec::new() };
        look(&tree, &mut report);
        report.found.len()
    }

    #[test]
    fn long_user_data_is_seen_before_it_is_too_long() {
        assert_eq!(found(user_data_size, &"x".repeat(60_000)), 0);
        assert_eq!(found(user_data_size, &"x".repeat(60_001)), 1);
    }

    #[test]
    fn other_letters_in_user_data_are_seen() {
        assert_eq!(found(user_data_not_ascii, "plain"), 0);
        assert_eq!(found(user_data_not_ascii, "Prüfstelle"), 1);
    }
}
