//! What a stock machine starts from: the release's tree, disk and kernel, and the answers that its cloud-init finds on
//! a `NoCloud` source (see the page of that name in cloud-init's documentation).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::slot::{Slot, stdout};

/// Where cloud-init looks for a `NoCloud` source on the machine's own disk.
const SEED_DIR: &str = "/var/lib/cloud/seed/nocloud";

/// A directory that `tests/setup` makes: see `stock.sh` for what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Stock {
    dir: PathBuf,
}

impl Stock {
    /// The stock machine of a release, by its code name.
    pub(crate) fn of(release: &str) -> Self {
        let setup = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup");
        let dir = PathBuf::from(stdout(Command::new(setup).args(["--stock", release])).trim());
        assert!(
            dir.is_dir(),
            "there is no stock machine at {}: run `tests/setup --release {release}` first",
            dir.display()
        );
        Self { dir }
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.dir.join("kernel")
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// The account that cloud-init makes and lets in by ssh.
    pub(crate) fn account(&self) -> &'static str {
        if self.dir.join("mirror/ubuntu").exists() { "ubuntu" } else { "debian" }
    }

    /// What the package mirror serves.
    pub(crate) fn mirror(&self) -> PathBuf {
        self.dir.join("mirror")
    }
}

/// The files of a `NoCloud` source, by name. `network` is left alone where the droplet's network is laid by others.
pub(crate) fn seed_files(slot: &Slot, user_data: &str, network: bool) -> Vec<(&'static str, String)> {
    let number = slot.number;
    // A new instance whenever a machine is made, from a snapshot too.
    let instance = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let meta_data = format!(
        "instance-id: {instance}local-hostname: droplet-{number}\npublic-keys: [\"{}\"]\n",
        slot.public_key()
    );
    let network = if network {
        format!(
            "version: 2\nethernets:\n  eth0:\n    dhcp4: false\n    accept-ra: false\n    addresses: [\"{}/24\", \"{}/64\"]\n    \
             routes: [{{to: \"0.0.0.0/0\", via: \"{}\"}}, {{to: \"::/0\", via: \"{}\"}}]\n",
            slot.addr(),
            slot.addr6(),
            slot.host_addr(),
            slot.host_addr6()
        )
    } else {
        "config: disabled\n".to_owned()
    };
    vec![
        ("user-data", user_data.to_owned()),
        ("meta-data", meta_data),
        // As on the provider's images, the key opens root's account, too.
        ("vendor-data", "#cloud-config\ndisable_root: false\n".to_owned()),
        ("network-config", network),
    ]
}

/// The path of a file of the source on the machine's own disk.
pub(crate) fn seed_path(name: &str) -> String {
    format!("{SEED_DIR}/{name}")
}

/// `/etc/hosts` of a droplet: itself, and this machine's end of the wire under the names of what is there.
pub(crate) fn hosts(slot: &Slot) -> String {
    format!(
        "127.0.0.1 localhost\n127.0.1.1 droplet-{}\n::1 localhost ip6-localhost ip6-loopback\n\
         {} registry.test deb.debian.org security.debian.org archive.ubuntu.com security.ubuntu.com\n",
        slot.number,
        slot.host_addr()
    )
}
