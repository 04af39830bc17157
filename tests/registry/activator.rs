//! The activator on its way to fresh machines: pinned, kept, pushed; and the user-data that names it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bundle::bundle::activator::activator_tag;
use bundle::model::Digest;
use bundle::registry::{Registry as Client, Repository};

use crate::registry::{PASSWORD, Registry};
use crate::words;

const PROGRAM: &[u8] = b"#!/bin/sh\n# the activator\n";

#[test]
fn an_activator_is_pushed_once_is_there_by_digest_and_is_no_garbage() {
    let registry = Registry::with_tls();
    let client = Client::new(registry.options(PASSWORD)).unwrap();
    let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, b"#!/bin/sh\n# another one!!\n").unwrap();
    let (digest, size) = (Digest::of(PROGRAM), PROGRAM.len() as u64);

    assert!(!client.has_activator(&repository, digest, size).unwrap());
    let refused = words(&client.push_activator(&repository, digest, size, &path).unwrap_err());
    assert!(refused.contains("digest"), "{refused}");
    assert!(!client.has_activator(&repository, digest, size).unwrap());

    fs::write(&path, PROGRAM).unwrap();
    client.push_activator(&repository, digest, size, &path).unwrap();
    assert!(client.has_activator(&repository, digest, size).unwrap());
    let image = format!("{repository}:{}", activator_tag(digest)).parse().unwrap();
    client.resolve_tag(&image).unwrap();
    registry.collect_garbage();
    assert_eq!(fs::read(registry.blob(digest)).unwrap(), PROGRAM);
}

/// A profile beside a lock, and a builder who works there.
struct Builder<'a> {
    registry: &'a Registry,
    dir: tempfile::TempDir,
}

impl<'a> Builder<'a> {
    fn new(registry: &'a Registry) -> Self {
        let builder = Self { registry, dir: tempfile::tempdir().unwrap() };
        builder.write("activator", PROGRAM);
        builder.profile("");
        assert!(builder.run(&["lock", "shop.toml"]).status.success());
        builder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn profile(&self, registry: &str) {
        let digest = Digest::of(b"image");
        let text = format!(
            "environment = \"test\"\ndomain = \"shop.example.com\"\n{registry}\n[droplet]\nsize = \"s-1vcpu-2gb\"\n\
             region = \"fra1\"\nimage = \"debian-13-x64\"\n[firewall]\nssh_from = [\"10.0.0.0/8\"]\n[services.web]\n\
             image = \"registry.example.com/web@{digest}\"\nmem_limit = \"64m\"\n"
        );
        self.write("shop.toml", text.as_bytes());
    }

    fn with_registry(&self) {
        self.profile(&format!("[registry]\nrepository = \"{}/team/app\"\n", self.registry.host()));
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.current_dir(self.dir.path()).args(["--root", "builder"]).args(arguments);
        command.output().unwrap()
    }

    /// What is said on stderr, and the exit code.
    fn said(&self, arguments: &[&str]) -> (String, i32) {
        let output = self.run(arguments);
        (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
    }

    fn forget(&self) {
        fs::remove_dir_all(self.dir.path().join("builder")).unwrap();
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

#[test]
fn a_push_takes_the_activator_along_from_where_it_was_kept() {
    let registry = Registry::plain();
    let builder = Builder::new(&registry);
    builder.with_registry();
    let (said, code) = builder.said(&["push", "shop.toml"]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("activator"), "none is pinned: {said}");

    assert!(builder.run(&["lock", "shop.toml", "--activator", "activator"]).status.success());
    fs::remove_file(builder.path().join("activator")).unwrap();
    let (said, code) = builder.said(&["push", "shop.toml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("the activator sent to {}/team/app", registry.host())), "{said}");
    assert_eq!(fs::read(registry.blob(Digest::of(PROGRAM))).unwrap(), PROGRAM);

    // Where it is already, nobody needs to have it.
    builder.forget();
    let writes = registry.writes();
    let (said, code) = builder.said(&["push", "shop.toml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the activator is already in"), "{said}");
    assert_eq!(registry.writes(), writes);

    // Before anything is sent, it is known whether all can be.
    builder.write("later", b"a later program");
    assert!(builder.run(&["lock", "shop.toml", "--activator", "later"]).status.success());
    builder.forget();
    let (said, code) = builder.said(&["push", "shop.toml"]);
    assert_eq!(code, 20, "{said}");
    assert!(said.contains("is neither in") && said.contains("hint: run `bundle lock"), "{said}");
    assert_eq!(registry.writes(), writes);

    // The very program that runs may be the one.
    let this = env!("CARGO_BIN_EXE_bundle");
    assert!(builder.run(&["lock", "shop.toml", "--activator", this]).status.success());
    builder.forget();
    let (said, code) = builder.said(&["push", "shop.toml"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the activator sent to"), "{said}");
}

#[test]
fn user_data_is_printed_only_if_a_machine_could_boot_from_it() {
    let registry = Registry::plain();
    let builder = Builder::new(&registry);
    let (said, code) = builder.said(&["cloud-init", "shop.toml"]);
    assert_eq!(code, 1);
    assert!(said.contains("would not know where its bundle is") && said.contains("`[registry]`"), "{said}");

    builder.with_registry();
    let (said, code) = builder.said(&["cloud-init", "shop.toml"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("pins no activator") && said.contains("`bundle lock shop.toml --activator PATH`"),
        "{said}"
    );

    assert!(builder.run(&["lock", "shop.toml", "--activator", "activator"]).status.success());
    let output = builder.run(&["cloud-init", "shop.toml"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let bundle = String::from_utf8(builder.run(&["build", "shop.toml"]).stdout).unwrap();
    assert!(text.starts_with("#cloud-config\n# ") && text.is_ascii());
    let own = fs::read_to_string(builder.dir.path().join("shop.toml")).unwrap();
    builder.write("shop.toml", own.replace("10.0.0.0/8", "203.0.113.0/24").as_bytes());
    let (said, code) = builder.said(&["cloud-init", "shop.toml"]);
    assert_eq!(code, 1);
    assert!(said.contains("`ssh_from` still has addresses that are for documentation"), "{said}");
    builder.write("shop.toml", own.as_bytes());
    for digest in [bundle.trim(), &Digest::of(PROGRAM).to_string()] {
        assert_eq!(text.matches(digest).count(), 1, "{digest}");
    }
    let size = format!("{} bytes, of 65536 that a droplet takes", text.len());
    assert!(String::from_utf8(output.stderr).unwrap().contains(&size));
    let json = builder.run(&["cloud-init", "shop.toml", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["user_data"], &json["bundle"]), (&text.into(), &bundle.trim().into()));

    let lock = fs::read_to_string(builder.path().join("bundle.lock")).unwrap();
    let digest = Digest::of(b"image");
    let lock = format!(
        "{lock}\n[images.\"registry.example.com/web:1\"]\ndigest = \"{digest}\"\nplaceholder = true\n"
    );
    builder.write("bundle.lock", lock.as_bytes());
    let profile = fs::read_to_string(builder.path().join("shop.toml")).unwrap();
    builder.write("shop.toml", profile.replace(&format!("web@{digest}"), "web:1").as_bytes());
    let (said, code) = builder.said(&["cloud-init", "shop.toml"]);
    assert_eq!(code, 1);
    assert!(said.contains("`registry.example.com/web` has no digest yet"), "{said}");
}
