//! `[gc]` → `bundle-gc.timer` and its service: what no generation needs any more goes, every day.

use schemars::JsonSchema;
use serde::Deserialize;

use super::timer::{Job, Needs, When, check_times};
use super::{Artifact, Problem, RenderError, Section, Tree, literal};
use crate::spec::Spec;

/// When old generations, files and images are removed, and what stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gc {
    /// Whether old generations, files and images are removed by themselves. Default: `true`.
    enabled: bool,
    /// At which times of the day, in the machine's time zone (UTC on a droplet). Default: `["04:15"]`.
    at: Vec<String>,
    /// How many good generations are kept, the newest; the current one, the last good one and the one that `bundle rollback`
    /// goes to are kept besides. Default: `5`.
    keep: u32,
}

impl Default for Gc {
    fn default() -> Self {
        Self { enabled: true, at: vec!["04:15".to_owned()], keep: 5 }
    }
}

impl Section for Gc {
    const KIND: &'static str = "gc";
    const TABLE: Option<&'static str> = Some("gc");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Gc {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let mut problems = check_times("at", &self.at);
        if !(1..=1000).contains(&self.keep) {
            let message = format!("`{}` is not between 1 and 1000 generations", self.keep);
            problems.push(literal::problem("keep", message, None));
        }
        problems
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if !self.enabled {
            return Ok(());
        }
        let keep = self.keep.to_string();
        let job = Job {
            kind: Self::KIND,
            name: "bundle-gc",
            description: "Remove what no generation needs",
            arguments: &["gc", "--keep", &keep],
            when: When::Daily(&self.at),
            needs: Needs::DockerAnd("/var/lib/bundle"),
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
        for unit in ["bundle-gc.service", "bundle-gc.timer"] {
            let path = format!("etc/systemd/system/{unit}");
            insta::assert_snapshot!(unit, fixture::text(&tree, &path, Slot::Blue));
        }
    }

    #[test]
    fn one_generation_is_the_least() {
        let gc: Gc = toml::from_str("keep = 0\nat = []").unwrap();
        assert_eq!(gc.check(&fixture::spec()).len(), 2);
    }
}
