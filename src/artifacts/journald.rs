//! `[journald]` → `etc/systemd/journald.conf.d/zz-bundle.conf`: how long and how much the journal keeps.
//!
//! Drop-ins are merged in the order of their names, wherever they lie, and Debian and Ubuntu ship a `syslog.conf`: hence
//! `zz-` (`journald.conf(5)`, "Configuration Directories and Precedence").

use schemars::JsonSchema;
use serde::Deserialize;

use super::format::Refused;
use super::format::settings::Settings;
use super::size::Size;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::model::OnChange;
use crate::spec::Spec;

/// How much of its journal the machine keeps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Journald {
    /// Whether the bundle says anything about the journal. Default: `true`.
    enabled: bool,
    /// How much of the disk it may take. Default: `"1g"`.
    max_use: Size,
    /// How much of the disk it leaves free. Default: `"2g"`.
    keep_free: Size,
    /// After how many days an entry goes, at least 7; earlier only if `max_use` is reached. Default: `30`.
    keep_days: u32,
    /// How many lines one unit may write in 30 s before more are dropped, and counted. Default: `10000`.
    burst: u32,
}

impl Default for Journald {
    fn default() -> Self {
        let gib = |count: u64| Size::of_bytes(count << 30);
        Self { enabled: true, max_use: gib(1), keep_free: gib(2), keep_days: 30, burst: 10_000 }
    }
}

/// The file's place in a view.
pub const PATH: &str = "etc/systemd/journald.conf.d/zz-bundle.conf";

/// What is logged is kept for a week, whatever else.
const LEAST_DAYS: u32 = 7;

impl Section for Journald {
    const KIND: &'static str = "journald";
    const TABLE: Option<&'static str> = Some("journald");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Journald {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(LEAST_DAYS..=3650).contains(&self.keep_days) {
            let message = format!("`{}` is not between {LEAST_DAYS} and 3650 days", self.keep_days);
            problems.push(literal::problem("keep_days", message, None));
        }
        if self.max_use.mib() < 64 {
            let message = format!("`{}` is less than the 64m that a journal needs to rotate", self.max_use);
            problems.push(literal::problem("max_use", message, None));
        }
        if self.burst == 0 {
            let message = "`0` would let one unit fill the journal".to_owned();
            problems.push(literal::problem("burst", message, None));
        }
        problems
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if !self.enabled {
            return Ok(());
        }
        let text = self.text().map_err(|refused| refused.at(PATH))?;
        let unit = literal::unit("systemd-journald.service")?;
        let entry = Entry::text(Self::KIND, literal::path(PATH)?, text).on_change(OnChange::Restart(unit));
        tree.insert(entry).map(drop)
    }
}

impl Journald {
    fn text(&self) -> Result<String, Refused> {
        let mut conf = Settings::section("Journal");
        conf.set("Storage", "persistent")?
            .set("Compress", "yes")?
            // systemd's `M` is 1024 * 1024 bytes (journald.conf(5)).
            .set("SystemMaxUse", &format!("{}M", self.max_use.mib()))?
            .set("SystemKeepFree", &format!("{}M", self.keep_free.mib()))?
            .set("MaxRetentionSec", &format!("{}day", self.keep_days))?
            .comment("Whole files go, so that none is to hold more than a day.")
            .set("MaxFileSec", "1day")?
            .set("RateLimitIntervalSec", "30s")?
            .set("RateLimitBurst", &self.burst.to_string())?
            .comment("Once is enough.")
            .set("ForwardToSyslog", "no")?;
        Ok(conf.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    #[test]
    fn renders() {
        insta::assert_snapshot!("zz-bundle.conf", fixture::text(&fixture::tree(), PATH, Slot::Blue));
    }

    #[test]
    fn a_week_is_the_least() {
        let journald: Journald = toml::from_str("keep_days = 6\nmax_use = '1m'\nburst = 0").unwrap();
        let at: Vec<String> =
            journald.check(&fixture::spec()).into_iter().flat_map(|problem| problem.at).collect();
        assert_eq!(at, ["keep_days", "max_use", "burst"]);
        let journald: Journald = toml::from_str("keep_days = 7\nmax_use = '512m'").unwrap();
        assert_eq!(journald.check(&fixture::spec()), []);
        assert!(journald.text().unwrap().contains("SystemMaxUse=512M\n"));
    }
}
