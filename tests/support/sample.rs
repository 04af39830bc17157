//! A bundle that is as small as one can be.

use std::collections::BTreeMap;

use bundle::artifacts::{Entry, Tree};
use bundle::bundle::{Bundle, seal};
use bundle::model::Digest;
use bundle::spec::{Droplet, Networks, OsRelease, Spec, Switching};

/// A machine without services.
pub fn spec() -> Spec {
    Spec {
        name: "shop".parse().unwrap(),
        environment: "production".to_owned(),
        env_files: BTreeMap::new(),
        files: BTreeMap::new(),
        domain: "shop.example".to_owned(),
        registry: None,
        docker_repository: None,
        droplet: Droplet {
            size: "s-1vcpu-1gb".to_owned(),
            region: "fra1".to_owned(),
            release: OsRelease::Debian13,
            memory_mib: 1024,
            vcpus: 1,
            public_interface: "eth0".to_owned(),
        },
        networks: Networks {
            data: "10.90.0.0/24".parse().unwrap(),
            blue: "10.90.1.0/24".parse().unwrap(),
            green: "10.90.2.0/24".parse().unwrap(),
        },
        services: BTreeMap::new(),
        routes: BTreeMap::new(),
        migrations: None,
        secrets: BTreeMap::new(),
        switching: Switching { trial_seconds: 30, health_seconds: 120, drain_seconds: 10 },
        activator: None,
        acme_ca: None,
    }
}

/// A bundle without services, and with this text in one of its files.
pub fn bundle(text: &str) -> Bundle {
    let mut tree = Tree::default();
    for (path, text) in
        [("compose/blue.yaml", "name: blue\n"), ("compose/green.yaml", "name: green\n"), ("etc/motd", text)]
    {
        tree.insert(Entry::text("test", path.parse().unwrap(), text.to_owned())).unwrap();
    }
    tree.set_release(Digest::of(b"release"));
    seal(&spec(), &tree).unwrap()
}
