//! The units under `etc/systemd/system/`: early, late, firewall, proxy.
//!
//! Early comes before the network, the firewall and Docker: it recovers an interrupted switch, settles `/etc` and fills
//! the secrets' ramfs. Late comes after Docker and brings the current slot up. There is no `[Install]` section: the
//! activator makes the `.wants` links itself, through `current`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::format::Refused;
use super::format::unit::{Arg, UnitFile};
use super::{Artifact, Entry, RenderError, Section, Tree, certificates, haproxy, literal, nftables};
use crate::model::{Mask, PROGRAM, Slot, Unit};
use crate::spec::Spec;

/// The kind `systemd`; it has no table.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Systemd {}

/// A function that writes a unit.
type Write = fn(&mut UnitFile) -> Result<(), Refused>;

impl Section for Systemd {
    const KIND: &'static str = "systemd";
    const TABLE: Option<&'static str> = None;

    fn absent() -> Option<Self> {
        Some(Self {})
    }
}

impl Artifact for Systemd {
    fn render(&self, _spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        insert(tree, "bundle-early.service", early, "sysinit.target", false)?;
        insert(tree, "bundle-late.service", late, "multi-user.target", false)?;
        if tree.get(nftables::PATH, Slot::Blue).is_some() {
            insert(tree, "bundle-firewall.service", firewall, "sysinit.target", true)?;
            // It flushes the whole ruleset when it starts and stops, Docker's tables included.
            tree.mask(literal::unit("nftables.service")?, Mask { stop: false });
        }
        if tree.get(haproxy::PATH, Slot::Blue).is_some() {
            insert(tree, "bundle-haproxy.service", proxy, "multi-user.target", true)?;
            tree.mask(literal::unit("haproxy.service")?, Mask { stop: true });
        }
        if tree.get(certificates::PATH, Slot::Blue).is_some() {
            insert(tree, "bundle-certificates.service", certificates::service, None, false)?;
            insert(tree, "bundle-certificates.timer", certificates::timer, "timers.target", true)?;
        }
        Ok(())
    }
}

/// Adds the unit `name`.
fn insert(
    tree: &mut Tree,
    name: &str,
    write: Write,
    wanted_by: impl Into<Option<&'static str>>,
    start: bool,
) -> Result<(), RenderError> {
    let path = format!("etc/systemd/system/{name}");
    let mut file = UnitFile::default();
    write(&mut file).map_err(|refused| refused.at(&path))?;
    let wanted_by = wanted_by.into().map(literal::unit).transpose()?.into_iter().collect();
    let unit = Unit { wanted_by, start, ahead: false };
    let entry = Entry::text(Systemd::KIND, literal::path(&path)?, file.finish())
        .check(&["systemd-analyze", "verify", "--recursive-errors=no", "{}"])
        .unit(unit);
    tree.insert(entry).map(drop)
}

const BUNDLE: Arg<'static> = Arg::Literal(PROGRAM);

fn early(unit: &mut UnitFile) -> Result<(), Refused> {
    unit.section("Unit")
        .fixed(&[
            "Description=Settle the machine's generation before network, firewall and Docker",
            "DefaultDependencies=no",
            "RequiresMountsFor=/var/lib/bundle",
            "After=local-fs.target systemd-remount-fs.service",
            "Wants=network-pre.target",
            "Before=network-pre.target bundle-firewall.service bundle-haproxy.service",
            "Before=containerd.service docker.service bundle-late.service",
            // What they read comes through `current`.
            "Before=systemd-sysctl.service",
            "Conflicts=shutdown.target",
            "Before=shutdown.target",
        ])
        .section("Service")
        .comment("No sandbox: it mounts the secrets' ramfs for everybody to see, and talks to systemd.")
        .comment("The limit is there because the network, and with it SSH, waits.")
        .fixed(&["Type=oneshot", "RemainAfterExit=yes", "TimeoutStartSec=120", "UMask=0077"])
        .exec("ExecStart", &[BUNDLE, Arg::Literal("boot"), Arg::Literal("--early")])
        .map(drop)
}

fn late(unit: &mut UnitFile) -> Result<(), Refused> {
    unit.section("Unit")
        .fixed(&[
            "Description=Bring up the machine's current slot",
            "Wants=docker.service",
            "After=bundle-early.service bundle-firewall.service docker.service",
        ])
        .section("Service")
        .fixed(&["Type=oneshot", "RemainAfterExit=yes", "TimeoutStartSec=900", "UMask=0077"])
        .exec("ExecStart", &[BUNDLE, Arg::Literal("boot"), Arg::Literal("--late")])
        .map(drop)
}

fn firewall(unit: &mut UnitFile) -> Result<(), Refused> {
    let load = [Arg::Literal("/usr/sbin/nft"), Arg::Literal("-f"), Arg::Literal(RULESET)];
    unit.section("Unit")
        .fixed(&[
            "Description=Load the bundle's nftables table",
            "DefaultDependencies=no",
            "RequiresMountsFor=/var/lib/bundle",
            "After=local-fs.target systemd-sysctl.service bundle-early.service",
            "Wants=network-pre.target",
            "Before=network-pre.target",
            "Conflicts=shutdown.target",
            "Before=shutdown.target",
        ])
        .section("Service")
        .comment("No ExecStop: a stopped unit must not open the machine.")
        .fixed(&["Type=oneshot", "RemainAfterExit=yes"])
        .exec("ExecStart", &load)?
        .exec("ExecReload", &load)?
        .fixed(&[
            "CapabilityBoundingSet=CAP_NET_ADMIN",
            "RestrictAddressFamilies=AF_NETLINK",
            "IPAddressDeny=any",
        ])
        .fixed(SANDBOX);
    Ok(())
}

fn proxy(unit: &mut UnitFile) -> Result<(), Refused> {
    let program = Arg::Literal("/usr/sbin/haproxy");
    let (file, config) = (Arg::Literal("-f"), Arg::Literal(CONFIG));
    unit.section("Unit")
        .fixed(&[
            "Description=HAProxy, the door of the bundle's services",
            "After=network.target bundle-early.service bundle-firewall.service",
            // It is the door: it is tried again for ever, whatever broke it for a while (systemd.unit(5)).
            "StartLimitIntervalSec=0",
        ])
        .section("Service")
        .fixed(&["Type=notify"])
        .exec("ExecStart", &[program, Arg::Literal("-Ws"), file, config])?
        .exec("ExecReload", &[program, Arg::Literal("-c"), Arg::Literal("-q"), file, config])?
        .exec("ExecReload", &[Arg::Literal("/bin/kill"), Arg::Literal("-USR2"), Arg::Expanded("$MAINPID")])?
        .fixed(&[
            "KillMode=mixed",
            "SuccessExitStatus=143",
            "Restart=always",
            "RestartSec=1",
            "LimitNOFILE=65536",
            "User=haproxy",
            "Group=haproxy",
            "RuntimeDirectory=bundle-haproxy",
            "RuntimeDirectoryMode=0750",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
            "IPAddressDeny=169.254.0.0/16",
            "ProcSubset=pid",
        ])
        .fixed(SANDBOX);
    Ok(())
}

/// The ruleset, and the configuration, of the current generation.
const RULESET: &str = "/var/lib/bundle/current/nftables/bundle.nft";
const CONFIG: &str = "/var/lib/bundle/current/haproxy/haproxy.cfg";

/// What none of our units needs (systemd.exec(5)). `MemoryDenyWriteExecute=` holds because the proxy's configuration has
/// no regular expression, whose compiler would need it.
pub(super) const SANDBOX: &[&str] = &[
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "DevicePolicy=closed",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "PrivateIPC=yes",
    "RemoveIPC=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
];

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn renders() {
        let tree = fixture::tree();
        for name in ["early", "late", "firewall", "haproxy"] {
            let path = format!("etc/systemd/system/bundle-{name}.service");
            insta::assert_snapshot!(
                format!("bundle-{name}.service"),
                fixture::text(&tree, &path, Slot::Blue)
            );
        }
        let masks: Vec<&str> = tree.masks().keys().map(crate::model::UnitName::as_str).collect();
        assert_eq!(masks, ["haproxy.service", "nftables.service"]);
    }

    #[test]
    fn a_profile_without_firewall_and_routes_leaves_the_distributions_units_alone() {
        let mut tree = Tree::default();
        Systemd {}.render(&fixture::spec(), &mut tree).unwrap();
        assert!(tree.masks().is_empty());
        assert_eq!(tree.entries().count(), 2);
    }
}
