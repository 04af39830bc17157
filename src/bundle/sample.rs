//! A small bundle for the tests of this folder.

use std::collections::BTreeMap;

use super::{Bundle, seal};
use crate::artifacts::{Entry, Tree};
use crate::model::{Digest, Generator, Mask, Mode, SecretFile, SecretOrigin, SecretSource, Slot, Unit, User};
use crate::spec::{
    Droplet, Hosts, Networks, OsRelease, PinnedImage, Placement, Route, Service, Spec, Switching,
};

fn service(image: &str, placement: Placement, host: u16) -> Service {
    Service {
        image: PinnedImage {
            repository: format!("docker.io/library/{image}"),
            tag: Some("1".to_owned()),
            digest: Digest::of(image.as_bytes()),
            name: image.parse().unwrap(),
        },
        placement,
        hosts: Hosts { data_blue: host, data_green: host, slot: host },
        user: None,
        secrets: Vec::new(),
        environment: BTreeMap::new(),
        env_files: Vec::new(),
        volumes: Vec::new(),
        depends_on: BTreeMap::new(),
        compose: serde_json::Map::new(),
    }
}

pub(crate) fn spec() -> Spec {
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
        services: BTreeMap::from([
            ("redis".parse().unwrap(), service("redis", Placement::Data, 10)),
            ("web".parse().unwrap(), service("shop", Placement::Slot, 20)),
            ("worker".parse().unwrap(), service("shop", Placement::SlotSingleton, 21)),
        ]),
        routes: BTreeMap::from([(
            "web".parse().unwrap(),
            Route {
                service: "web".parse().unwrap(),
                host: "shop.example".to_owned(),
                path: "/".to_owned(),
                port: 8000,
                health: "/health".to_owned(),
                release_header: None,
            },
        )]),
        migrations: Some("web".parse().unwrap()),
        secrets: BTreeMap::from([(
            "redis_password".parse().unwrap(),
            SecretOrigin::Generate(Generator::Password),
        )]),
        switching: Switching { trial_seconds: 30, health_seconds: 120, drain_seconds: 10 },
        activator: None,
        acme_ca: None,
    }
}

pub(crate) fn tree() -> Tree {
    let mut tree = Tree::default();
    let text = |path: &str, content: &str| Entry::text("test", path.parse().unwrap(), content.to_owned());
    for (path, content) in [
        ("compose/data.yaml", "name: data\n"),
        ("compose/blue.yaml", "name: blue\n"),
        ("compose/green.yaml", "name: green\n"),
        ("etc/a/same.conf", "same\n"),
        ("etc/b/same.conf", "same\n"),
    ] {
        tree.insert(text(path, content)).unwrap();
    }
    for slot in Slot::BOTH {
        tree.insert(text("etc/colour.conf", slot.as_str()).only(slot)).unwrap();
    }
    let unit = Unit { wanted_by: vec!["multi-user.target".parse().unwrap()], start: true, ahead: false };
    tree.insert(text("etc/systemd/system/shop.service", "[Service]\n").unit(unit)).unwrap();
    tree.insert(Entry { mode: Mode::Run, ..text("bin/check", "#!/bin/sh\n") }).unwrap();
    let template = tree.insert(text("redis/users.acl.tmpl", "user default {{ redis_password }}\n")).unwrap();
    let owner = User { uid: 999, gid: 999 };
    let secret = SecretSource::Value("redis_password".parse().unwrap());
    for (path, source) in [("redis/users.acl", SecretSource::Template(template)), ("redis/password", secret)]
    {
        tree.secret_file(SecretFile { path: path.parse().unwrap(), source, owner, link: None }).unwrap();
    }
    tree.mask("haproxy.service".parse().unwrap(), Mask { stop: true });
    tree.set_release(Digest::of(b"release"));
    tree
}

pub(crate) fn bundle() -> Bundle {
    seal(&spec(), &tree()).unwrap()
}
