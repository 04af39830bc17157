//! What the bundle makes of the machine itself, read back from the programs that read it: sshd, kernel, journal, apt, Docker;
//! the units of the bundle in their sandboxes, doing their work; and what auditors say. docs/hardening.md is about the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::image;
use crate::machine::Machine;
use crate::outside::{asks_metadata, metadata_service};
use crate::serving::{await_healthy, first_switch, release};
use crate::site::Site;
use crate::slot::output;

/// What cloud-init leaves where a platform's settings ask for it; later by name than the bundle's file.
const HOSTILE: &str =
    "PasswordAuthentication yes\nPermitRootLogin yes\nX11Forwarding yes\nMaxAuthTries 100\n";

/// Our units and how exposed each may be at most, in tenths (systemd-analyze(1), `security --threshold=`); and why it is not
/// less. What systemd on Debian 12 counts more strictly is a tenth or two.
const UNITS: &[(&str, u32, &str)] = &[
    (
        "bundle-firewall.service",
        15,
        "it must have CAP_NET_ADMIN and the machine's network, for that is what it sets",
    ),
    ("bundle-haproxy.service", 15, "it is on the machine's network, and binds ports below 1024"),
    ("bundle-health.service", 15, "it asks the public listener over the loopback"),
    ("bundle-backup.service", 5, "it talks to Docker alone"),
    ("bundle-gc.service", 5, "it talks to Docker alone"),
    (
        "bundle-early.service",
        100,
        "it mounts the secrets' ramfs for everybody to see, and settles an interrupted switch",
    ),
    ("bundle-late.service", 100, "it settles an interrupted switch: units, firewall, containers, /etc"),
];

/// Not below `/proc/sys/net`: a droplet in namespaces has the kernel of the machine that tests, and must not change it.
const OTHERS_KERNEL: &str = "net.";

#[test]
fn what_the_profile_says_about_the_machine_is_in_force() {
    let site = Site::open();
    let droplet = &site.droplet;
    droplet.write_file("/etc/ssh/sshd_config.d/50-cloud-init.conf", HOSTILE.as_bytes(), 0o600);
    droplet.sh("systemctl restart ssh");
    let before = sshd(droplet);
    assert_eq!(before["passwordauthentication"], "yes", "the hostile file counts as long as it is alone");
    audit(droplet, "before");
    let digest = site.publish(&release("first", ""));
    first_switch(&site, &digest);

    sshd_is_as_the_file_says(droplet);
    the_kernel_is_as_the_file_says(droplet);
    the_journal_keeps_what_it_should(droplet);
    apt_holds_what_the_bundle_stands_on(droplet);
    containers_cannot_reach_the_metadata_service(droplet);
    how_exposed_each_unit_is(droplet);
    health_says_what_is_wrong(&site);
    copies_are_made_and_judged(&site);
    what_nobody_needs_goes(&site);
    audit(droplet, "after");
}

/// What sshd would do for root, by keyword.
fn sshd(droplet: &dyn Machine) -> BTreeMap<String, String> {
    let said = droplet.sh("sshd -T -C user=root,host=client,addr=203.0.113.9");
    said.lines().filter_map(|line| line.split_once(' ')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn sshd_is_as_the_file_says(droplet: &dyn Machine) {
    let is = sshd(droplet);
    let file = droplet.sh("cat /etc/ssh/sshd_config.d/00-bundle.conf");
    let mut settings = 0;
    for (keyword, value) in
        file.lines().filter(|line| !line.starts_with('#')).filter_map(|l| l.split_once(' '))
    {
        // sshd's own word for it.
        let value = if value == "prohibit-password" { "without-password" } else { value };
        assert_eq!(is.get(&keyword.to_lowercase()).map(String::as_str), Some(value), "{keyword}");
        settings += 1;
    }
    assert!(settings > 20, "{file}");
    // The one that runs, not only the one that would be started.
    let login = droplet.login("root");
    let mut words = Command::new("ssh");
    words.args(login.options()).args(["-oPubkeyAuthentication=no", &login.destination(), "true"]);
    let refused = String::from_utf8(output(&mut words).stderr).unwrap();
    assert!(refused.contains("Permission denied (publickey)"), "{refused}");
    let mut shell = Command::new("ssh");
    shell.args(login.options()).args([&login.destination(), "echo in"]);
    let said = output(&mut shell);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "in\n", "a key opens: {said:?}");
    println!("hardening: sshd has all {settings} settings, beside a hostile file");
}

fn the_kernel_is_as_the_file_says(droplet: &dyn Machine) {
    assert_eq!(droplet.sh("systemctl show -P Result systemd-sysctl.service").trim(), "success");
    let file = droplet.sh("cat /etc/sysctl.d/90-bundle.conf");
    let (mut read, mut unknown) = (0, Vec::new());
    for (key, value) in file.lines().filter_map(|line| line.split_once(" = ")) {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let is = droplet.run(&["cat", &path]);
        if !is.status.success() {
            unknown.push(key.to_owned());
        } else if key.starts_with(OTHERS_KERNEL) && key != "net.core.bpf_jit_harden" {
            assert_eq!(String::from_utf8_lossy(&is.stdout).trim(), value, "{key}");
            read += 1;
        }
    }
    // What a namespace of the network's does not have belongs to the kernel as a whole.
    println!(
        "hardening: {read} settings of the network in force; not on this kernel, or not in a namespace: {unknown:?}"
    );
    assert!(read > 15 && unknown.len() < 6, "{read} {unknown:?}");
}

fn the_journal_keeps_what_it_should(droplet: &dyn Machine) {
    let merged = droplet.sh("systemd-analyze cat-config systemd/journald.conf");
    let last = |key: &str| {
        let mut lines = merged.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.next_back().map(str::to_owned).unwrap_or_default()
    };
    let expected = [
        ("Storage", "persistent"),
        ("SystemMaxUse", "1024M"),
        ("SystemKeepFree", "2048M"),
        ("MaxRetentionSec", "30day"),
        ("ForwardToSyslog", "no"),
    ];
    for (key, value) in expected {
        assert_eq!(last(key), value, "{key}: {merged}");
    }
    // journald says what it has read when it starts with files on the disk; a key that it does not know, it says too.
    let said = droplet.sh("journalctl --flush; journalctl -b -u systemd-journald --no-pager -o cat");
    assert!(!said.contains("Unknown key"), "{said}");
    assert!(said.contains("max 1G"), "{said}");
    assert!(!droplet.sh("ls /var/log/journal/*/").is_empty());
}

/// A newer version of one of them, from a repository of the test's own.
fn apt_holds_what_the_bundle_stands_on(droplet: &dyn Machine) {
    let dump = droplet.sh("apt-config dump");
    for line in [
        "APT::Periodic::Unattended-Upgrade \"1\";",
        "Unattended-Upgrade::Automatic-Reboot \"false\";",
        "Unattended-Upgrade::Package-Blacklist:: \"docker\\.io$\";",
        "Unattended-Upgrade::Package-Blacklist:: \"haproxy$\";",
        "Unattended-Upgrade::Origins-Pattern:: \"origin=Debian,codename=${distro_codename}-security,label=Debian-Security\";",
    ] {
        assert!(dump.lines().any(|is| is == line), "{line}: {dump}");
    }
    let upgrade = droplet.sh(
        "mkdir -p /srv/archive && cd /srv/archive
         for name in haproxy curl; do
           mkdir -p $name/DEBIAN
           printf 'Package: %s\\nVersion: 99.0-1\\nArchitecture: amd64\\nMaintainer: a <a@example.com>\\nDescription: b\\n' $name >$name/DEBIAN/control
           dpkg-deb --build $name >/dev/null
           dpkg-deb -f $name.deb >>Packages
           printf 'Filename: ./%s.deb\\nSize: %s\\nSHA256: %s\\n\\n' $name $(stat -c %s $name.deb) $(sha256sum $name.deb | cut -d' ' -f1) >>Packages
         done
         echo 'deb [trusted=yes] file:/srv/archive ./' >/srv/archive/sources.list
         apt() { apt-get -o Dir::Etc::SourceList=/srv/archive/sources.list -o Dir::Etc::SourceParts=/dev/null \"$@\"; }
         apt -qq update
         apt -s upgrade | grep ^Inst
         echo --
         apt -s install haproxy=99.0-1 | grep ^Inst",
    );
    let (by_itself, by_name) = upgrade.split_once("--").unwrap();
    assert!(by_itself.contains("Inst curl") && !by_itself.contains("haproxy"), "{upgrade}");
    assert!(by_name.contains("Inst haproxy"), "whoever names a version gets it: {upgrade}");
}

fn containers_cannot_reach_the_metadata_service(droplet: &dyn Machine) {
    metadata_service(droplet);
    let dir = tempfile::tempdir().unwrap();
    let layout = image::tiny(dir.path(), "1", &["true"]);
    droplet.feed(&["docker", "load"], &image::archive(&layout, "1", "tiny:1"));
    assert!(asks_metadata(droplet, "root") && asks_metadata(droplet, "outsider"), "the service is there");
    for who in ["nobody", "container", "insider"] {
        assert!(!asks_metadata(droplet, who), "{who} reads the user-data");
    }
    // Those of the first generation, which were started before its files stood in /etc: whoever is in their control group.
    for container in ["postgres", "backend-blue", "worker-blue"] {
        let pid = droplet.sh(&format!("docker inspect --format '{{{{.State.Pid}}}}' {container}"));
        let group = droplet.sh(&format!("sed -n 's/^0:://p' /proc/{}/cgroup", pid.trim()));
        assert!(group.contains("bundle-app.slice"), "{container}: {group}");
        let script = format!(
            "echo $$ >/sys/fs/cgroup{}/cgroup.procs; curl -s -m 3 http://169.254.169.254/ || echo shut",
            group.trim()
        );
        assert_eq!(droplet.sh(&script).trim(), "shut", "{container}");
    }
}

fn how_exposed_each_unit_is(droplet: &dyn Machine) {
    let listed = droplet.sh("ls /etc/systemd/system/ | grep '^bundle-.*\\.service$'");
    let ours: Vec<&str> = listed.lines().filter(|unit| *unit != "bundle-bootstrap.service").collect();
    let known: Vec<&str> = UNITS.iter().map(|(unit, ..)| *unit).collect();
    let unnamed: Vec<_> =
        ours.iter().filter(|unit| !known.contains(unit) && !unit.contains("cert")).collect();
    assert!(unnamed.is_empty(), "how exposed may they be? {unnamed:?}");
    for (unit, most, why) in UNITS {
        let path = format!("/etc/systemd/system/{unit}");
        let said =
            droplet.sh(&format!("systemd-analyze security --offline=yes --no-pager {path} | tail -n 1"));
        let score: f64 =
            said.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{said}"));
        println!("hardening: {unit:<26} {score:>4}  at most {:>4}: {why}", f64::from(*most) / 10.0);
        assert!(score * 10.0 <= f64::from(*most), "{unit}: {said}");
        let result = droplet.sh(&format!("systemctl show -P Result {unit}"));
        assert_eq!(result.trim(), "success", "{unit}");
    }
    for timer in ["backup", "gc", "health"] {
        let state = droplet.sh(&format!(
            "systemctl is-active bundle-{timer}.timer; systemctl is-enabled bundle-{timer}.timer"
        ));
        assert!(state.starts_with("active"), "{timer}: {state}");
    }
}

/// Starts a oneshot of ours to its end; gives its exit code and what it said.
fn start(droplet: &dyn Machine, unit: &str) -> (String, String) {
    droplet.run(&["systemctl", "start", unit]);
    let code = droplet.sh(&format!("systemctl show -P ExecMainStatus {unit}"));
    let said = droplet.sh(&format!("journalctl -u {unit} --no-pager -o cat -n 30"));
    (code.trim().to_owned(), said)
}

fn health_says_what_is_wrong(site: &Site) {
    let droplet = &site.droplet;
    await_healthy(droplet, std::time::Duration::from_secs(30));
    let (code, said) = start(droplet, "bundle-health.service");
    assert_eq!(code, "0", "{said}");
    droplet.sh("docker stop worker-blue");
    let (code, said) = start(droplet, "bundle-health.service");
    assert_eq!(code, "41", "{said}");
    assert!(said.contains("service worker is red"), "{said}");
    assert!(droplet.sh("systemctl --failed --no-legend --plain").contains("bundle-health.service"));
    droplet.sh("docker start worker-blue");
    await_healthy(droplet, std::time::Duration::from_mins(1));
    assert_eq!(start(droplet, "bundle-health.service").0, "0");
}

fn copies(site: &Site) -> Vec<Value> {
    let listed = site.bundle(&["backups", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap_or_else(|_| panic!("{listed:?}"));
    listed["backups"].as_array().unwrap().clone()
}

fn copies_are_made_and_judged(site: &Site) {
    let droplet = &site.droplet;
    let (code, said) = start(droplet, "bundle-backup.service");
    assert_eq!(code, "0", "in its sandbox: {said}");
    let made = copies(site);
    assert_eq!(made.len(), 1, "{made:?}");
    let path = made[0]["path"].as_str().unwrap();
    let owned = droplet.sh(&format!("stat -c '%a %U' {path} /var/lib/bundle/backups"));
    assert_eq!(owned, "600 root\n700 root\n");
    let table =
        droplet.sh(&format!("docker exec -i postgres pg_restore --list <{path} | grep -c 'TABLE DATA'"));
    assert!(table.trim().parse::<u32>().unwrap() > 0, "the application's tables are in it: {table}");
    // What is cut off is no copy.
    droplet.sh(&format!("head -c 100 {path} >/tmp/cut"));
    assert!(
        !droplet.run(&["sh", "-c", "docker exec -i postgres pg_restore --list </tmp/cut"]).status.success()
    );
    // A database that is away gives none, and takes none.
    droplet.sh("docker stop postgres");
    let failed = site.bundle(&["backup"]);
    assert_eq!(failed.code, 30, "{failed:?}");
    assert!(failed.err.contains("no new copy of `postgres`"), "{failed:?}");
    droplet.sh("docker start postgres");
    assert!(copies(site).iter().any(|copy| copy["path"] == path), "the good one stays");
    assert_eq!(droplet.sh("find /var/lib/bundle/backups -name '*.new'"), "", "nothing half done is left");
    await_healthy(droplet, std::time::Duration::from_mins(1));
}

fn what_nobody_needs_goes(site: &Site) {
    let droplet = &site.droplet;
    for name in ["second", "third"] {
        let digest = site.publish(&release(name, ""));
        let switched = site.switch(&digest);
        assert_eq!(switched.code, 0, "{switched:?}");
    }
    let old = format!("bundle.local/tiny:{}", "ab".repeat(32));
    droplet.sh(&format!("docker tag tiny:1 {old}"));
    let life = site.life("postgres");
    let objects = || droplet.sh("ls /var/lib/bundle/store | wc -l").trim().parse::<u32>().unwrap();
    let before = objects();
    let would = site.bundle(&["gc", "--keep", "1", "--dry-run"]);
    assert_eq!(would.code, 0, "{would:?}");
    assert_eq!(objects(), before, "nothing was removed");
    assert!(would.out.contains("generation 1\n") && would.out.contains(&old), "{would:?}");
    droplet.sh("sed 's/--keep 5/--keep 1/' /etc/systemd/system/bundle-gc.service >/run/systemd/system/once-gc.service; systemctl daemon-reload");
    let (code, said) = start(droplet, "once-gc.service");
    assert_eq!(code, "0", "in its sandbox: {said}");
    assert!(objects() < before, "{said}");
    let images = droplet.sh("docker images --format '{{.Repository}}:{{.Tag}}'");
    assert!(!images.contains("bundle.local/tiny") && images.contains("tiny:1"), "{images}");
    assert_eq!(site.bundle(&["gc", "--keep", "1"]).code, 10, "nothing is left to remove");
    assert_eq!(site.life("postgres"), life);
    let back = site.bundle(&["rollback"]);
    assert_eq!(back.code, 0, "the way back is still there: {back:?}");
    await_healthy(droplet, std::time::Duration::from_mins(1));
    let gone = site.bundle(&["switch", "--generation", "1"]);
    assert_eq!(gone.code, 20, "{gone:?}");
}

/// What lynis gives here at least. A droplet in namespaces has the kernel settings of the machine that tests, a package mirror
/// without a security archive, and neither a time service nor what `audit_programs` installs: a real one has some ten more.
const LEAST_INDEX: u32 = 70;

/// lynis, where there is time: its index, and what it found. docs/hardening.md says why what is left is left.
fn audit(droplet: &dyn Machine, when: &str) {
    if std::env::var_os("BUNDLE_EXHAUSTIVE").is_none() {
        return;
    }
    for path in ["/usr/sbin/lynis", "/usr/share/lynis", "/etc/lynis"] {
        assert!(Path::new(path).exists(), "`{path}` is not there: tests/setup installs lynis");
        if !droplet.run(&["test", "-e", path]).status.success() {
            droplet.copy_in(Path::new(path), path);
        }
    }
    droplet.run(&["lynis", "audit", "system", "--quick", "--no-colors"]);
    let report = droplet.sh("cat /var/log/lynis-report.dat");
    let field = |name: &str| -> Vec<&str> {
        report.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
    };
    let index: u32 = field("hardening_index")[0].parse().unwrap();
    println!("lynis {when}: {index}");
    for finding in ["warning[]", "suggestion[]"].iter().flat_map(|name| field(name)) {
        println!("lynis {when}: {finding}");
    }
    if when == "after" {
        assert!(index >= LEAST_INDEX, "{index}");
    }
}
