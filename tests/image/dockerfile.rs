//! Images of Dockerfiles on machines that build none: what the lock says of them is enough, until their sources change.
//! That BuildKit builds them is shown where there is one, in `tests/droplet/dockerfile.rs`.

use std::fs;
use std::process::Output;

use bundle::artifacts::KINDS;
use bundle::image::{Context, context};
use bundle::profile::{Lock, Profile, check, load};
use bundle::spec::DockerfileLock;
use tempfile::TempDir;

use crate::project::{Project, shell};
use crate::registry::Registry;

const DOCKERFILE: &str = "dockerfile = \"app/Dockerfile\"\nargs = { VERSION = \"1\" }";

/// A project whose image somebody has built and locked: here we do, from files, because a lock does not say how.
fn locked(registry: &Registry) -> Project {
    let project = Project::with(
        TempDir::new().unwrap(),
        registry.host(),
        "layers = [{ from = \"app\", to = \"/srv\" }]",
    );
    shell(project.path(), "mkdir app; echo hello >app/page; echo 'FROM scratch' >app/Dockerfile");
    let digest = project.build().0.parse().unwrap();
    let path = project.path().join("p.toml");
    let profile = fs::read_to_string(&path).unwrap();
    let (before, _) = profile.split_once("[images.web]\n").unwrap();
    fs::write(&path, format!("{before}[images.web]\n{DOCKERFILE}\n")).unwrap();
    let sources = load(path.to_str().unwrap());
    let (profile, mut lock) = (Profile::parse(&sources, KINDS).unwrap(), Lock::parse(&sources));
    let (_, recipe) = profile.dockerfiles().next().unwrap();
    let files = Context::gather(recipe).unwrap();
    let inputs = context::inputs(recipe, files.digest().unwrap()).unwrap();
    lock.set_dockerfile("web", DockerfileLock { inputs, digest, builder: "by hand".to_owned() });
    fs::write(project.path().join("bundle.lock"), lock.write()).unwrap();
    project
}

fn told(output: Output) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
    said
}

fn done(output: Output) -> (String, String) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap().trim().to_owned(), said)
}

#[test]
fn what_the_lock_says_is_enough_for_everything_but_the_lock() {
    let registry = Registry::plain();
    let project = locked(&registry);
    let without = |words: &[&str]| {
        let mut command = project.command();
        // Whatever is on this machine: nothing can be run.
        command.env("PATH", "/nonexistent").args(words).output().unwrap()
    };
    let resolved = check(&load(project.path().join("p.toml").to_str().unwrap()), KINDS).unwrap();
    let digest = resolved.dockerfiles.values().next().unwrap().lock.digest.to_string();
    let (bundle, _) = done(without(&["build", "p.toml", "--check"]));
    assert_eq!(without(&["lock", "p.toml"]).status.code(), Some(10), "nothing is built that is locked");
    assert_eq!(done(without(&["image", "p.toml", "web", "--layout", "out"])).0, digest);

    // Where it was not built, it must be in the registry already.
    let elsewhere = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bundle"));
        command.current_dir(project.path()).args(["--root", "elsewhere"]).args(words).output().unwrap()
    };
    assert_eq!(done(elsewhere(&["build", "p.toml"])).0, bundle);
    for words in [&["push", "p.toml"][..], &["image", "p.toml", "web", "--layout", "out2"]] {
        let said = told(elsewhere(words));
        assert!(
            said.contains(&format!("the image `web` ({digest}) is neither in the cache here nor in")),
            "{said}"
        );
    }
    assert_eq!(registry.writes(), 0, "nothing was sent");
    let (_, said) = done(without(&["push", "p.toml"]));
    assert!(said.contains("image web: 2 blobs sent"), "{said}");
    assert!(done(elsewhere(&["push", "p.toml", "--again"])).1.contains("image web is already in"));
    assert_eq!(done(elsewhere(&["push", "p.toml", "--with-images", "--layout", "carried"])).0, "oci:carried");
    let (_, said) = done(elsewhere(&["verify", "p.toml", "--rebuild"]));
    assert!(said.contains("compared with the lock and not built again"), "{said}");
    let blob = digest.strip_prefix("sha256:").unwrap();
    for layout in ["out", "carried"] {
        assert!(project.path().join(layout).join("blobs/sha256").join(blob).exists(), "{layout}");
    }

    // The statement says who built it; a bill of materials would have to say what is in it.
    let kept = project.path().join("cache/var/cache/bundle/provenance");
    let statement = fs::read_to_string(kept.join(format!("{blob}.intoto.json"))).unwrap();
    assert!(statement.contains("https://bundle.dev/build/dockerfile/v1") && statement.contains("by hand"));
    assert!(!kept.join(format!("{blob}.spdx.json")).exists());
}

#[test]
fn a_change_of_the_sources_is_refused_until_somebody_locks_it() {
    let registry = Registry::plain();
    let project = locked(&registry);
    for (change, back) in [
        ("echo x >>app/page", "echo hello >app/page"),
        ("echo x >app/new", "rm app/new"),
        ("chmod 755 app/page", "chmod 644 app/page"),
        ("echo 'FROM scratch AS x' >app/Dockerfile", "echo 'FROM scratch' >app/Dockerfile"),
        (
            "sed -i 's/VERSION = \"1\"/VERSION = \"2\"/' p.toml",
            "sed -i 's/VERSION = \"2\"/VERSION = \"1\"/' p.toml",
        ),
    ] {
        shell(project.path(), change);
        for command in ["build", "push"] {
            let said = told(project.run(&[command, "p.toml"]));
            assert!(said.contains("error: the image `web` is not what the lock says"), "{change}: {said}");
            assert!(
                said.contains("changed since it was locked") && said.contains("hint: run `bundle lock"),
                "{said}"
            );
        }
        let said =
            told(project.command().env("PATH", "/nonexistent").args(["lock", "p.toml"]).output().unwrap());
        assert!(
            said.contains("the image `web` cannot be built") && said.contains("there is no `docker`"),
            "{said}"
        );
        assert!(said.contains("hint: a Dockerfile is built by Docker"), "{said}");
        shell(project.path(), back);
    }
    shell(project.path(), "touch -d 2001-02-03 app/page; chmod 600 app/page");
    done(project.run(&["build", "p.toml"]));
}

#[test]
fn an_image_that_nobody_has_built_is_a_mistake_of_the_profile() {
    let registry = Registry::plain();
    let project = locked(&registry);
    shell(project.path(), "sed -i '/dockerfiles/,$d' bundle.lock");
    for command in ["check", "build"] {
        let said = told(project.run(&[command, "p.toml"]));
        assert!(said.contains("the image `web` of a Dockerfile is not in `bundle.lock`"), "{said}");
        assert!(said.contains("help: run `bundle lock p.toml`"), "{said}");
    }
}
