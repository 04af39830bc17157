//! `[backup]` → `bundle-backup.timer` and its service: copies of the databases, made and judged every day, kept for a while
//! on the machine.
//!
//! The kinds of databases say how a copy is made; this one says when, and for how long. What a disk that dies takes along
//! has to be somewhere else: `bundle backups` says where the files are.

use schemars::JsonSchema;
use serde::Deserialize;

use super::timer::{Job, Needs, When, check_times};
use super::{Artifact, Problem, RenderError, Section, Tree, literal};
use crate::spec::Spec;

/// When the databases are copied, and how long the copies are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Whether the databases of the profile are copied. Default: `true`, where it has one.
    enabled: bool,
    /// At which times of the day, in the machine's time zone (UTC on a droplet). Default: `["02:30"]`.
    at: Vec<String>,
    /// After how many days a copy goes; the last one of a database never does. Default: `7`.
    keep_days: u32,
}

impl Default for Backup {
    fn default() -> Self {
        Self { enabled: true, at: vec!["02:30".to_owned()], keep_days: 7 }
    }
}

impl Section for Backup {
    const KIND: &'static str = "backup";
    const TABLE: Option<&'static str> = Some("backup");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Backup {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let mut problems = check_times("at", &self.at);
        if !(1..=3650).contains(&self.keep_days) {
            let message = format!("`{}` is not between 1 and 3650 days", self.keep_days);
            problems.push(literal::problem("keep_days", message, None));
        }
        problems
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if !self.enabled || tree.dumps().is_empty() {
            return Ok(());
        }
        tree.keep_dumps(self.keep_days);
        let job = Job {
            kind: Self::KIND,
            name: "bundle-backup",
            description: "Copy the databases",
            arguments: &["backup"],
            when: When::Daily(&self.at),
            needs: Needs::DockerAnd("/var/lib/bundle/backups"),
        };
        job.render(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn renders() {
        let tree = fixture::tree();
        for unit in ["bundle-backup.service", "bundle-backup.timer"] {
            let path = format!("etc/systemd/system/{unit}");
            insta::assert_snapshot!(unit, fixture::text(&tree, &path, Slot::Blue));
        }
        assert_eq!(tree.kept_days(), Some(7));
        insta::assert_debug_snapshot!("dumps", tree.dumps());
    }

    #[test]
    fn without_a_database_there_is_nothing_to_copy() {
        let mut tree = Tree::default();
        Backup::default().render(&fixture::spec(), &mut tree).unwrap();
        assert_eq!((tree.entries().count(), tree.kept_days()), (0, None));
    }

    #[test]
    fn a_day_is_the_least_and_a_time_is_a_time() {
        let backup: Backup = toml::from_str("at = ['02:30', '25:00']\nkeep_days = 0").unwrap();
        let at: Vec<String> =
            backup.check(&fixture::spec()).into_iter().map(|problem| problem.at.join(".")).collect();
        assert_eq!(at, ["at.1", "keep_days"]);
    }
}
