//! `[updates]` → `etc/apt/apt.conf.d/52-bundle` and `etc/apt/preferences.d/90-bundle`: security updates come by themselves;
//! what the bundle stands on does not.
//!
//! Docker, Compose and HAProxy are held: a new version of one of them is a release of its own, which somebody tries first.
//! unattended-upgrades passes over them by their names; the pin keeps `apt upgrade` from them, as `apt-mark hold` would,
//! but as a file (`apt_preferences(5)`: below 100 a version is installed only where there is none). A person who names a
//! version gets it: `apt-get install docker.io=VERSION`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::format::Refused;
use super::format::settings::Settings;
use super::timer::is_time;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::spec::{OsRelease, Spec};

/// Security updates that are installed by themselves.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Updates {
    /// Whether security updates are installed by themselves. Default: `true`.
    enabled: bool,
    /// When the machine may reboot for an update that asks for it, as in `"04:00"` (the machine's time zone, UTC on a droplet);
    /// without it, it never does, and `/run/reboot-required` says that it should. Default: never.
    #[schemars(example = &"04:00")]
    reboot_at: Option<String>,
    /// Further packages that are held, by their names. Default: none.
    hold: Vec<String>,
}

impl Default for Updates {
    fn default() -> Self {
        Self { enabled: true, reboot_at: None, hold: Vec::new() }
    }
}

/// The settings' place in a view: after the package's own `50unattended-upgrades`.
pub const PATH: &str = "etc/apt/apt.conf.d/52-bundle";
/// The pin's place in a view.
pub const PIN: &str = "etc/apt/preferences.d/90-bundle";

/// What the bundle stands on, from the distribution or from Docker.
const HELD: &[&str] = &[
    "containerd",
    "containerd.io",
    "docker-buildx",
    "docker-buildx-plugin",
    "docker-ce",
    "docker-ce-cli",
    "docker-ce-rootless-extras",
    "docker-cli",
    "docker-compose",
    "docker-compose-plugin",
    "docker-compose-v2",
    "docker.io",
    "haproxy",
    "runc",
];

impl Section for Updates {
    const KIND: &'static str = "updates";
    const TABLE: Option<&'static str> = Some("updates");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Updates {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(time) = self.reboot_at.as_ref().filter(|time| !is_time(time)) {
            let hint = Some("write hours and minutes, as in `\"04:00\"`".to_owned());
            problems.push(literal::problem("reboot_at", format!("`{time}` is not a time of the day"), hint));
        }
        for (nth, package) in self.hold.iter().enumerate() {
            if !is_package(package) {
                let at = vec!["hold".to_owned(), nth.to_string()];
                let message = format!("`{package}` is not the name of a package");
                problems.push(Problem { at, message, hint: None });
            }
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if !self.enabled {
            return Ok(());
        }
        let text = self.text(spec.droplet.release).map_err(|refused| refused.at(PATH))?;
        let check = ["apt-config", "--config-file={}", "dump"];
        tree.insert(Entry::text(Self::KIND, literal::path(PATH)?, text).check(&check))?;
        let check = ["apt-cache", "-o", "Dir::Etc::Preferences={}", "policy"];
        tree.insert(Entry::text(Self::KIND, literal::path(PIN)?, self.pin()).check(&check))?;
        tree.package("unattended-upgrades");
        Ok(())
    }
}

/// Debian Policy §5.6.1.
fn is_package(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

impl Updates {
    fn held(&self) -> Vec<&str> {
        let mut held: Vec<&str> = HELD.iter().copied().chain(self.hold.iter().map(String::as_str)).collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    fn text(&self, release: OsRelease) -> Result<String, Refused> {
        let mut conf = Settings::apt();
        conf.comment("Every day (apt-daily.timer, apt-daily-upgrade.timer).")
            .set("APT::Periodic::Update-Package-Lists", "1")?
            .set("APT::Periodic::Unattended-Upgrade", "1")?
            .set("APT::Periodic::AutocleanInterval", "7")?
            .comment("Security alone; the lists of the package's own file would be added to.")
            .fixed("#clear Unattended-Upgrade::Origins-Pattern;")
            .fixed("#clear Unattended-Upgrade::Allowed-Origins;");
        let (list, origins): (&str, &[&str]) = match release {
            OsRelease::Debian12 | OsRelease::Debian13 => (
                "Unattended-Upgrade::Origins-Pattern::",
                &["origin=Debian,codename=${distro_codename}-security,label=Debian-Security"],
            ),
            OsRelease::Ubuntu2404 => (
                "Unattended-Upgrade::Allowed-Origins::",
                &[
                    "${distro_id}:${distro_codename}-security",
                    "${distro_id}ESMApps:${distro_codename}-apps-security",
                    "${distro_id}ESM:${distro_codename}-infra-security",
                ],
            ),
        };
        for origin in origins {
            conf.set(list, origin)?;
        }
        conf.comment("A new version of these is a release of its own.");
        for package in self.held() {
            // A regular expression, matched from the beginning of the name.
            let pattern = package.replace('.', "\\.").replace('+', "\\+");
            conf.set("Unattended-Upgrade::Package-Blacklist::", &format!("{pattern}$"))?;
        }
        conf.comment(
            "A dpkg that was interrupted is mended; what a power cut would leave half done stays small.",
        )
        .set("Unattended-Upgrade::AutoFixInterruptedDpkg", "true")?
        .set("Unattended-Upgrade::MinimalSteps", "true")?
        .comment("Old kernels would fill the disk.")
        .set("Unattended-Upgrade::Remove-Unused-Kernel-Packages", "true")?
        .set(
            "Unattended-Upgrade::Automatic-Reboot",
            if self.reboot_at.is_some() { "true" } else { "false" },
        )?;
        if let Some(time) = &self.reboot_at {
            conf.set("Unattended-Upgrade::Automatic-Reboot-Time", time)?
                .set("Unattended-Upgrade::Automatic-Reboot-WithUsers", "true")?;
        }
        Ok(conf.finish())
    }

    fn pin(&self) -> String {
        let packages = self.held().join(" ");
        // Both records: the second alone would count for the installed version, too, and the newer of two equals wins.
        format!(
            "Explanation: A new version of these is a release of its own; `apt-get install NAME=VERSION` makes it.\n\
             Package: {packages}\nPin: release a=now\nPin-Priority: 990\n\n\
             Explanation: As it is on the machine, or new where there is none.\n\
             Package: {packages}\nPin: release *\nPin-Priority: 1\n"
        )
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
        insta::assert_snapshot!("52-bundle", fixture::text(&tree, PATH, Slot::Blue));
        insta::assert_snapshot!("90-bundle", fixture::text(&tree, PIN, Slot::Blue));
    }

    #[test]
    fn each_distribution_names_its_security_updates_in_its_own_way() {
        let updates: Updates = toml::from_str("reboot_at = '04:30'\nhold = ['libc6', 'g++']").unwrap();
        assert_eq!(updates.check(&fixture::spec()), []);
        let ubuntu = updates.text(OsRelease::Ubuntu2404).unwrap();
        assert!(
            ubuntu.contains("Allowed-Origins:: \"${distro_id}:${distro_codename}-security\";\n"),
            "{ubuntu}"
        );
        assert!(
            ubuntu.contains("\"g\\+\\+$\";\n") && ubuntu.contains("Reboot-Time \"04:30\";\n"),
            "{ubuntu}"
        );
        let debian = updates.text(OsRelease::Debian12).unwrap();
        assert!(debian.contains("label=Debian-Security") && !debian.contains("ESM"), "{debian}");
    }

    #[test]
    fn what_apt_would_misread_is_refused() {
        let updates: Updates = toml::from_str("reboot_at = '4:00'\nhold = ['a b', 'x', '*']").unwrap();
        let at: Vec<String> =
            updates.check(&fixture::spec()).into_iter().map(|problem| problem.at.join(".")).collect();
        assert_eq!(at, ["reboot_at", "hold.0", "hold.1", "hold.2"]);
    }
}
