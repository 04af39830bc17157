//! `bundle verify PROFILE --rebuild`: the profile's own images and its bundle, built again, against what the registry has.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};

use bundle::artifacts::KINDS;
use bundle::bundle::{Layout, seal};
use bundle::image::unpack;
use bundle::model::Digest;
use bundle::profile::{check, load};
use bundle::registry::{Options, Registry as Client, Repository, Shipment};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::project::Project;
use crate::registry::{Registry, run};

const RECIPE: &str = "layers = [{ from = \"tree\", to = \"/srv\" }]\ncmd = [\"/srv/run\"]";

/// A profile with an image of its own, and a registry that has its bundle.
struct Pushed {
    registry: Registry,
    project: Project,
}

impl Pushed {
    fn new(recipe: &str) -> Self {
        let registry = Registry::plain();
        let project = Project::with(TempDir::new().unwrap(), registry.host(), recipe);
        fs::create_dir(project.path().join("tree")).unwrap();
        let pushed = Self { registry, project };
        pushed.write("tree/a", "first\n");
        pushed.write("tree/run", "#!/bin/sh\nexec sleep 1d\n");
        let (code, said) = pushed.bundle(&["push", "p.toml"]);
        assert_eq!(code, 0, "{said}");
        pushed
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.project.path().join(name), text).unwrap();
    }

    fn profile(&self) -> String {
        fs::read_to_string(self.project.path().join("p.toml")).unwrap()
    }

    fn bundle(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.project.run(arguments);
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
    let pushed = Pushed::new(RECIPE);
    let (code, said) = pushed.verify();
    assert!(code == 0 && said.contains("identical"), "{code}: {said}");
    // Without what the first build has left.
    fs::remove_dir_all(pushed.project.path().join("cache")).unwrap();
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
    let profile = pushed.profile();
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
    let pushed = Pushed::new(RECIPE);
    let (client, repository) = pushed.client();
    let layout_of = |name: &str| Layout::open(&pushed.project.path().join(name)).unwrap();
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
        let path = pushed.project.path().join("p.toml");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, text).unwrap();
        let mut sources = load(path.to_str().unwrap());
        sources.set_built("web".parse().unwrap(), image);
        let resolved = check(&sources, KINDS).unwrap();
        let bundle = seal(&resolved.spec, &resolved.render().unwrap()).unwrap();
        fs::write(&path, before).unwrap();
        let source = Layout::create(&pushed.project.path().join(into)).unwrap();
        source.add(&bundle).unwrap();
        client.push_bundle(&source, bundle.oci_digest(), &repository, &"p".parse().unwrap()).unwrap();
    };
    let profile = pushed.profile();
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
    let again = Layout::create(&pushed.project.path().join("again")).unwrap();
    for descriptor in document["layers"].as_array().unwrap().iter().chain([&document["config"]]) {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        again.copy_blob(&layout, digest, descriptor["size"].as_u64().unwrap()).unwrap();
    }
    again.copy_blob(&layout, other, size).unwrap();
    again.enter(other, size, bundle).unwrap();
    let (code, said) = pushed.bundle(&["verify", "oci:again", "--rebuild", "--profile", "p.toml"]);
    assert!(code == 50 && said.contains("the same content"), "{code}: {said}");
}

#[test]
fn an_image_for_two_platforms_is_pushed_whole_built_again_and_unpacked_for_each() {
    let pushed = Pushed::new(&format!("{RECIPE}\nplatforms = [\"linux/amd64\", \"linux/arm64\"]"));
    let (code, said) = pushed.verify();
    assert!(code == 0 && said.contains("identical"), "{code}: {said}");
    fs::remove_dir_all(pushed.project.path().join("cache")).unwrap();
    assert_eq!(pushed.verify().0, 0);

    let output = pushed.project.run(&["image", "p.toml", "web"]);
    let digest = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let (client, repository) = pushed.client();
    assert_eq!(client.referrers(&repository, digest.parse().unwrap()).unwrap().len(), 2, "of the index");
    fs::remove_dir_all(pushed.project.path().join("cache")).unwrap();
    let image = format!("{repository}@{digest}");
    for platform in ["linux/amd64", "linux/arm64"] {
        let (code, said) = pushed.bundle(&["unpack", "--platform", platform, &image, "out"]);
        assert_eq!(code, 0, "{platform}: {said}");
        let found = fs::read_to_string(pushed.project.path().join("out/srv/a")).unwrap();
        assert_eq!(found, "first\n", "{platform}");
        fs::remove_dir_all(pushed.project.path().join("out")).unwrap();
        let raw = ["inspect", "--config", "--tls-verify=false", "--override-arch", &platform[6..]];
        let config = run("skopeo", &[&raw[..], &[&format!("docker://{image}")]].concat());
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["architecture"], platform[6..]);
    }
    let (code, said) = pushed.bundle(&["unpack", "--platform", "linux/riscv64", &image, "out"]);
    assert!(code != 0 && said.contains("linux/riscv64"), "{code}: {said}");

    // One of the two by itself, also out of a layout.
    assert_eq!(pushed.bundle(&["image", "p.toml", "web", "--layout", "layout"]).0, 0);
    let (code, said) = pushed.bundle(&["unpack", "--platform", "linux/arm64", "oci:layout", "out"]);
    assert_eq!(code, 0, "{said}");
    let layout = Layout::open(&pushed.project.path().join("layout")).unwrap();
    let index: Value =
        serde_json::from_slice(&layout.read_blob(digest.parse().unwrap(), 1 << 20).unwrap()).unwrap();
    let one = format!("{repository}@{}", index["manifests"][0]["digest"].as_str().unwrap());
    let (code, said) = pushed.bundle(&["unpack", "--platform", "linux/arm64", &one, "other"]);
    assert!(code != 0 && said.contains("its `architecture` is `amd64`"), "{code}: {said}");

    pushed.write("tree/a", "fIrst\n");
    let (code, said) = pushed.verify();
    assert!(code == 51 && said.contains("`/srv/a` in layer 1"), "{code}: {said}");
}
