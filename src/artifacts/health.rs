//! `[health]` → `bundle-health.timer` and its service: whether all is well, asked every few minutes. What is not well is in the
//! journal, and in `systemctl --failed`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::timer::{Job, Needs, When};
use super::{Artifact, Problem, RenderError, Section, Tree, literal};
use crate::spec::Spec;

/// How often the machine asks by itself whether all is well.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Whether the machine asks by itself how it is. Default: `true`.
    enabled: bool,
    /// How many minutes lie between two times. Default: `5`.
    every_minutes: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { enabled: true, every_minutes: 5 }
    }
}

impl Section for Health {
    const KIND: &'static str = "health";
    const TABLE: Option<&'static str> = Some("health");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Health {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let good = (1..=1440).contains(&self.every_minutes);
        let message = || format!("`{}` is not between 1 and 1440 minutes", self.every_minutes);
        if good { Vec::new() } else { vec![literal::problem("every_minutes", message(), None)] }
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if !self.enabled {
            return Ok(());
        }
        let job = Job {
            kind: Self::KIND,
            name: "bundle-health",
            description: "Ask whether all is well",
            arguments: &["status", "--check"],
            when: When::EveryMinutes(self.every_minutes),
            needs: Needs::DockerAndLoopback,
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
        for unit in ["bundle-health.service", "bundle-health.timer"] {
            let path = format!("etc/systemd/system/{unit}");
            insta::assert_snapshot!(unit, fixture::text(&tree, &path, Slot::Blue));
        }
    }

    #[test]
    fn a_minute_is_the_least() {
        let health: Health = toml::from_str("every_minutes = 0").unwrap();
        assert_eq!(health.check(&fixture::spec())[0].at, ["every_minutes"]);
    }
}
