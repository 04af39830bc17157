//! `[hardening]` → what no other kind owns: kernel modules that nobody loads, no dumps of memory on the disk.
//!
//! Drop-ins only; a file that belongs to a package stays the package's. docs/hardening.md says what an auditor finds then,
//! and why what is left is left.

use schemars::JsonSchema;
use serde::Deserialize;

use super::format::settings::Settings;
use super::{Artifact, Entry, Problem, RenderError, Section, Tree, literal};
use crate::spec::Spec;

/// What hardens the machine and no other table is about.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hardening {
    /// Whether the bundle hardens what no other table is about. Default: `true`.
    enabled: bool,
    /// Modules of the bundle's own list that may be loaded all the same, such as `"usb_storage"`. Default: none.
    allow_modules: Vec<String>,
    /// Whether programs that watch the machine are installed with the first boot: auditd, process accounting, debsums and
    /// the like. An auditor asks for them; nobody else needs them. Default: `false`.
    audit_programs: bool,
}

impl Default for Hardening {
    fn default() -> Self {
        Self { enabled: true, allow_modules: Vec::new(), audit_programs: false }
    }
}

/// The modules' place in a view.
pub const MODULES: &str = "etc/modprobe.d/bundle.conf";
/// The limits' place in a view.
pub const LIMITS: &str = "etc/security/limits.d/bundle.conf";
/// The place in a view of what systemd does with a dump.
pub const COREDUMP: &str = "etc/systemd/coredump.conf.d/bundle.conf";

/// Protocols and devices that a droplet has no use for and that had holes (CIS Debian, "Network Kernel Modules" and
/// "Filesystem Kernel Modules"; lynis NETW-3200, USB-1000, STRG-1846).
const UNUSED: &[&str] = &[
    "dccp",
    "sctp",
    "rds",
    "tipc",
    "cramfs",
    "freevxfs",
    "hfs",
    "hfsplus",
    "jffs2",
    "firewire_core",
    "firewire_ohci",
    "usb_storage",
];

/// Small ones, from the distribution (lynis ACCT-9622, ACCT-9626, ACCT-9628, PKGS-7370, PKGS-7394, AUTH-9262, DEB-0280,
/// DEB-0811, DEB-0831).
const AUDIT_PROGRAMS: &[&str] = &[
    "acct",
    "apt-listchanges",
    "apt-show-versions",
    "auditd",
    "debsums",
    "libpam-passwdqc",
    "libpam-tmpdir",
    "needrestart",
    "sysstat",
];

impl Section for Hardening {
    const KIND: &'static str = "hardening";
    const TABLE: Option<&'static str> = Some("hardening");

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

impl Artifact for Hardening {
    fn check(&self, _spec: &Spec) -> Vec<Problem> {
        let unknown = |module: &&String| !UNUSED.contains(&module.as_str());
        let nth = self.allow_modules.iter().enumerate().filter(|(_, module)| unknown(module));
        nth.map(|(nth, module)| Problem {
            at: vec!["allow_modules".to_owned(), nth.to_string()],
            message: format!("`{module}` is not among the modules that the bundle keeps out"),
            hint: Some(format!("these are: {}", UNUSED.join(", "))),
        })
        .collect()
    }

    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        if self.audit_programs {
            for package in AUDIT_PROGRAMS {
                tree.package(package);
            }
        }
        if !self.enabled {
            return Ok(());
        }
        // `blacklist` alone only forgets aliases; `install` takes the place of loading (modprobe.d(5)), in the form that
        // auditors look for.
        let kept =
            UNUSED.iter().filter(|module| !self.allow_modules.iter().any(|allowed| allowed == *module));
        let mut modules = Settings::spaced();
        modules.comment("Nothing on a droplet uses these.");
        for module in kept {
            let kept_out = modules.set("install", &format!("{module} /bin/true"));
            kept_out
                .and_then(|modules| modules.set("blacklist", module))
                .map_err(|refused| refused.at(MODULES))?;
        }
        let mut limits = Settings::spaced();
        limits
            .comment("A dump of a program's memory has its secrets in it (CIS Debian 1.5; lynis KRNL-5820).");
        limits.fixed("* hard core 0");
        let mut coredump = Settings::section("Coredump");
        coredump.fixed("Storage=none").fixed("ProcessSizeMax=0");
        for (path, text) in
            [(MODULES, modules.finish()), (LIMITS, limits.finish()), (COREDUMP, coredump.finish())]
        {
            tree.insert(Entry::text(Self::KIND, literal::path(path)?, text))?;
        }
        Ok(())
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
        for path in [MODULES, LIMITS, COREDUMP] {
            insta::assert_snapshot!(path.replace('/', "_"), fixture::text(&tree, path, Slot::Blue));
        }
    }

    #[test]
    fn a_module_may_be_allowed_by_its_name() {
        let hardening: Hardening = toml::from_str("allow_modules = ['sctp', 'ext4']").unwrap();
        assert_eq!(hardening.check(&fixture::spec())[0].at, ["allow_modules", "1"]);
        let mut tree = Tree::default();
        hardening.render(&fixture::spec(), &mut tree).unwrap();
        let text = fixture::text(&tree, MODULES, Slot::Blue);
        assert!(
            !text.contains("sctp") && text.contains("install dccp /bin/true\nblacklist dccp\n"),
            "{text}"
        );
    }
}
