//! `bundle verify PROFILE --rebuild`: the profile's own images and its bundle, built again, against what the registry has.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::process::Command;

use bundle::artifacts::KINDS;
use bundle::bundle::{Layout, seal};
use bundle::image::unpack;
use bundle::model::Digest;
use bundle::profile::{check, load};
use bundle::registry::{Options, Registry as Client, Repository, Shipment};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::Registry;

const PROFILE: &str = r#"
environment = "test"
domain = "www.example.com"
[registry]
repository = "HOST/team/app"
[droplet]
size = "s-1vcpu-2gb"
region = "fra1"
image = "debian-13-x64"
[firewall]
ssh_from = ["10.0.0.0/8"]
[images.web]
layers = [{ from = "tree", to = "/srv" }]
cmd = ["/srv/run"]
[services.web]
image = "web"
user = "1:1"
healthcheck = { test = ["CMD", "true"] }
mem_limit = "64m"
cpus = "0.5"
pids_limit = 32
[routes.web]
service = "web"
port = 80
health = "/"
"#;

/// A profile with an image of its own, and a registry that has its bundle.
struct Pushed {
    registry: Registry,
    dir: TempDir,
}

impl Pushed {
    fn new() -> Self {
        let pushed = Self { registry: Registry::plain(), dir: TempDir::new().unwrap() };
        pushed.write("p.toml", &PROFILE.replace("HOST", pushed.registry.host()));
        fs::create_dir(pushed.dir.path().join("tree")).unwrap();
        pushed.write("tree/a", "first\n");
        pushed.write("tree/run", "#!/bin/sh\nexec sleep 1d\n");
        assert_eq!(pushed.bundle(&["lock", "p.toml"]).0, 0);
        let (code, said) = pushed.bundle(&["push", "p.toml"]);
        assert_eq!(code, 0, "{said}");
        pushed
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn bundle(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
        let output =
            command.args(["--root", "cache"]).args(arguments).current_dir(self.dir.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
    }

    fn verify(&self) -> (i32, String) {
        self.bundle(&["verify", "p.toml", "--rebuild"])
    }

    fn client(&self) -> (Client, Repository) {
        let repository = format!("{}/team/app", self.registry.host());
        (Client::new(Options::default()).unwrap(), repository.parse().unwrap())
    }
}

/// The manifest with every layer compressed by somebody else; its digest and size, in the layout.
fn encoded(layout: &Layout, manifest: Digest) -> (Digest, u64) {
    let mut document: Value = serde_json::from_slice(&layout.read_blob(manifest, 1 << 20).unwrap()).unwrap();
    for layer in document["layers"].as_array_mut().unwrap() {
        let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
        let mut plain = Vec::new();
        let blob = fs::File::open(layout.blob_path(digest)).unwrap();
        flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut plain).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&plain).unwrap();
        let bytes = gzip.finish().unwrap();
        layer["digest"] = json!(layout.write_blob(&bytes).unwrap());
        layer["size"] = json!(bytes.len());
    }
    let bytes = serde_json::to_vec(&document).unwrap();
    (layout.write_blob(&bytes).unwrap(), bytes.len() as u64)
}

#[test]
fn what_was_pushed_is_built_again_as_the_same_or_the_first_difference_is_named() {
    let pushed = Pushed::new();
    let (code, said) = pushed.verify();
    assert!(code == 0 && said.contains("identical"), "{code}: {said}");
    // Without what the first build has left.
    fs::remove_dir_all(pushed.dir.path().join("cache")).unwrap();
    assert_eq!(pushed.verify().0, 0);

    pushed.write("tree/a", "fIrst\n");
    let (code, said) = pushed.verify();
    assert!(code == 51 && said.contains("the image `web`"), "{code}: {said}");
    assert!(said.contains("`/srv/a` in layer 1: its content differs from byte 1 on"), "{said}");
    let (code, said) = pushed.bundle(&["--json", "verify", "p.toml", "--rebuild"]);
    let json: Value =
        serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap_or(&said)).unwrap();
    assert_eq!((code, &json["image"], &json["difference"]["path"]), (51, &json!("web"), &json!("/srv/a")));
    pushed.write("tree/a", "first\n");
    assert_eq!(pushed.verify().0, 0);

    // The bundle alone.
    let profile = PROFILE.replace("HOST", pushed.registry.host());
    pushed.write("p.toml", &profile.replace("64m", "65m"));
    let (code, said) = pushed.verify();
    assert!(
        code == 51 && said.contains("other content") && !said.contains("the image `web`"),
        "{code}: {said}"
    );

    // How the image runs, not what is in it.
    pushed.write("p.toml", &profile.replace("cmd = [\"/srv/run\"]", "cmd = [\"/srv/a\"]"));
    let (code, said) = pushed.verify();
    assert!(
        code == 51 && said.contains("the image `web`") && said.contains("configurations differ"),
        "{code}: {said}"
    );
}

#[test]
fn another_encoder_s_image_or_bundle_is_the_same_content() {
    let pushed = Pushed::new();
    let (client, repository) = pushed.client();
    let layout_of = |name: &str| Layout::open(&pushed.dir.path().join(name)).unwrap();
    assert_eq!(pushed.bundle(&["image", "p.toml", "web", "--layout", "layout"]).0, 0);
    let layout = layout_of("layout");
    let image = unpack::find(&layout, None).unwrap();
    let (other, _) = encoded(&layout, image.manifest.digest);
    assert_ne!(other, image.manifest.digest);
    let tag = format!("image-{}", other.hex()).parse().unwrap();
    let mounts = BTreeMap::default();
    let shipment = Shipment {
        layout: &layout,
        digest: other,
        repository: &repository,
        tag: &tag,
        mounts: &mounts,
        again: false,
    };
    client.push_image(shipment).unwrap();

    // A bundle that names that image.
    let sealed = |text: &str, image: Digest, into: &str| {
        let path = pushed.dir.path().join("p.toml");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, text).unwrap();
        let mut sources = load(path.to_str().unwrap());
        sources.set_built("web".parse().unwrap(), image);
        let resolved = check(&sources, KINDS).unwrap();
        let bundle = seal(&resolved.spec, &resolved.render().unwrap()).unwrap();
        fs::write(&path, before).unwrap();
        let source = Layout::create(&pushed.dir.path().join(into)).unwrap();
        source.add(&bundle).unwrap();
        client.push_bundle(&source, bundle.oci_digest(), &repository, &"p".parse().unwrap()).unwrap();
    };
    let profile = PROFILE.replace("HOST", pushed.registry.host());
    sealed(&profile, other, "source");
    let (code, said) = pushed.verify();
    assert!(code == 50 && said.contains("the image `web`"), "{code}: {said}");

    // With another change besides, it is not the same content any more.
    sealed(&profile.replace("64m", "65m"), other, "source");
    let (code, said) = pushed.verify();
    assert!(code == 51 && !said.contains("the image `web`"), "{code}: {said}");

    // The bundle itself.
    sealed(&profile, image.manifest.digest, "own");
    assert_eq!(pushed.verify().0, 0);
    let layout = layout_of("own");
    let manifest = layout.entries().unwrap()[0].manifest;
    let (other, size) = encoded(&layout, manifest);
    let document: Value = serde_json::from_slice(&layout.read_blob(other, 1 << 20).unwrap()).unwrap();
    let bundle: Digest = document["config"]["digest"].as_str().unwrap().parse().unwrap();
    let again = Layout::create(&pushed.dir.path().join("again")).unwrap();
    for descriptor in document["layers"].as_array().unwrap().iter().chain([&document["config"]]) {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        again.copy_blob(&layout, digest, descriptor["size"].as_u64().unwrap()).unwrap();
    }
    again.copy_blob(&layout, other, size).unwrap();
    again.enter(other, size, bundle).unwrap();
    let (code, said) = pushed.bundle(&["verify", "oci:again", "--rebuild", "--profile", "p.toml"]);
    assert!(code == 50 && said.contains("the same content"), "{code}: {said}");
}
