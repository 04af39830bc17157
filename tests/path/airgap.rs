//! Droplets that do not reach the registries of others: a bundle with its images in a directory, and in the machine's own
//! registry.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::machine::{Machine, Run};
use crate::project::{Project, shell};
use crate::registry::{Registry, run};
use crate::settled::assert_settled;

const RECIPE: &str = "layers = [{ from = \"tree\", to = \"/srv\" }]\ncmd = [\"/srv/a\"]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]";

fn project(host: &str) -> Project {
    let project = Project::with(TempDir::new().unwrap(), host, RECIPE);
    shell(project.path(), "mkdir tree; echo a >tree/a; seq 1000 >tree/numbers");
    project
}

fn said(project: &Project, arguments: &[&str]) -> Run {
    Run::of(project.command().args(arguments))
}

/// A machine that gets no image from this host.
fn machine(unreachable: &str) -> Machine {
    let machine = Machine::new();
    machine.script(&json!({ "no_image": [unreachable] }));
    machine
}

#[test]
fn a_directory_is_enough_for_a_machine_that_reaches_nothing() {
    let project = project("registry.invalid");
    fs::write(project.path().join("program"), "#!/bin/sh\n").unwrap();
    said(&project, &["lock", "p.toml", "--activator", "program"]).ends(0);
    let bundle = said(&project, &["build", "p.toml"]).ends(0).stdout;
    let at = |name: &str| format!("oci:{}", project.path().join(name).display());
    let write = |name: &str, more: &[&str]| {
        said(&project, &[&["push", "p.toml", "--layout", name], more].concat()).ends(0)
    };
    write("all", &["--with-images"]);
    // Again, nothing changes; another bundle does not go in.
    let index = fs::read(project.path().join("all/index.json")).unwrap();
    write("all", &["--with-images"]);
    assert_eq!(fs::read(project.path().join("all/index.json")).unwrap(), index);

    // The index is as it was, and of what it leads to only a droplet's part is there, which is all that others ask for.
    let image = said(&project, &["image", "p.toml", "web"]).ends(0).stdout;
    let hex = image.trim().strip_prefix("sha256:").unwrap();
    let blob = |digest: &str| project.path().join("all/blobs/sha256").join(&digest[7..]);
    let platforms: serde_json::Value =
        serde_json::from_slice(&fs::read(blob(image.trim())).unwrap()).unwrap();
    let there: Vec<bool> =
        [0, 1].map(|at| blob(platforms["manifests"][at]["digest"].as_str().unwrap()).exists()).to_vec();
    assert_eq!(
        (&platforms["manifests"][0]["platform"]["architecture"], there),
        (&json!("amd64"), vec![true, false])
    );
    let (from, to) = (format!("{}:image-{hex}", at("all")), format!("{}:x", at("copy")));
    run("skopeo", &["copy", "--quiet", "--insecure-policy", "--override-arch=amd64", &from, &to]);

    let there = machine("registry.invalid");
    there.run(&["switch", "--confirmed", &at("all")]).ends(0).says(&["receiving registry.invalid/team/app"]);
    assert_eq!(there.bundle().as_deref(), Some(bundle.trim()));
    assert_settled(&there, "out of a directory");

    write("less", &[]);
    let without = machine("registry.invalid");
    without.run(&["switch", "--confirmed", &at("less")]).ends(20).says(&["is not to be had"]);

    // One layer is damaged on its way: nothing is loaded, nothing is changed.
    let blobs = fs::read_dir(project.path().join("all/blobs/sha256")).unwrap();
    let layer = blobs.map(|entry| entry.unwrap().path()).find(|path| is_layer(project.path(), path)).unwrap();
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let other = machine("registry.invalid");
    other.run(&["switch", "--confirmed", &at("all")]).ends(20).says(&["damaged or tampered with"]);
    assert!(other.state()["images"].as_array().is_none_or(Vec::is_empty));

    fs::write(project.path().join("tree/a"), "b").unwrap();
    let refused = said(&project, &["push", "p.toml", "--layout", "all", "--with-images"]).ends(1);
    assert!(refused.stderr.contains("holds another bundle"), "{}", refused.stderr);
}

/// Whether a blob is the layer of the image in that project's directory `all`.
fn is_layer(project: &Path, blob: &Path) -> bool {
    let read = |digest: &str| -> serde_json::Value {
        let path = project.join("all/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(project.join("all/index.json")).unwrap()).unwrap();
    let name = "org.opencontainers.image.ref.name";
    let mut entries = index["manifests"].as_array().unwrap().iter();
    let image = entries.find(|entry| entry["annotations"][name].as_str().unwrap().starts_with("image-"));
    let platforms = read(image.unwrap()["digest"].as_str().unwrap());
    let manifest = read(platforms["manifests"][0]["digest"].as_str().unwrap());
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    layer.ends_with(blob.file_name().unwrap().to_str().unwrap())
}

#[test]
fn images_of_others_are_copied_along_and_found_when_the_others_are_gone() {
    let (theirs, ours) = (Registry::plain(), Registry::plain());
    let published = project(theirs.host());
    said(&published, &["push", "p.toml"]).ends(0);
    let digest = said(&published, &["image", "p.toml", "web"]).ends(0).stdout.trim().to_owned();
    let image = format!("{}/team/app@{digest}", theirs.host());

    let project = project(ours.host());
    let path = project.path().join("p.toml");
    let text = fs::read_to_string(&path).unwrap().replace("image = \"web\"", &format!("image = \"{image}\""));
    fs::write(&path, text.split("[images.web]").next().unwrap()).unwrap();
    said(&project, &["lock", "p.toml"]);
    let bundle = said(&project, &["build", "p.toml"]).ends(0).stdout.trim().to_owned();
    said(&project, &["push", "p.toml"]).ends(0);
    // Although the bundle is there.
    let sent = said(&project, &["push", "p.toml", "--with-images"]).ends(0);
    assert!(sent.stderr.contains("4 blobs sent") || sent.stderr.contains("3 blobs sent"), "{}", sent.stderr);
    let writes = ours.writes();
    said(&project, &["push", "p.toml", "--with-images"]).ends(0).says(&["0 blobs sent"]);
    assert_eq!(ours.writes(), writes);
    said(&project, &["push", "p.toml", "--layout", "out", "--with-images"]).ends(0);
    drop(theirs);

    let hex = digest.strip_prefix("sha256:").unwrap();
    for name in [format!("@{digest}"), format!(":image-{hex}")] {
        let from = format!("docker://{}/team/app{name}", ours.host());
        let to = format!("oci:{}:x", project.path().join("copy").display());
        let flags = ["copy", "--quiet", "--insecure-policy", "--all", "--preserve-digests"];
        run("skopeo", &[&flags[..], &["--src-tls-verify=false", &from, &to]].concat());
    }
    let machine = machine(image.split('/').next().unwrap());
    machine.run(&["switch", "--confirmed", &bundle]).ends(20);
    fs::create_dir_all(machine.path("etc/bundle")).unwrap();
    let settings = format!("repository = \"{}/team/app\"\n", ours.host());
    fs::write(machine.path("etc/bundle/registry.toml"), settings).unwrap();
    machine.run(&["switch", "--confirmed", &bundle]).ends(0).says(&["is not to be had there; taken from"]);
    assert_eq!(machine.bundle(), Some(bundle));
    assert_settled(&machine, "with an image out of its own registry");
    let carried = Machine::new();
    carried.script(&json!({ "no_image": ["127.0.0.1"] }));
    let layout = format!("oci:{}", project.path().join("out").display());
    carried.run(&["switch", "--confirmed", &layout]).ends(0);
}
