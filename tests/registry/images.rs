//! Container images by digest from a real registry, as a deploy carries them.

use bundle::bundle::{Layout, Platform};
use bundle::model::Digest;
use bundle::registry::{Image, Options, PushedImage, Registry as Client, Repository, Shipment};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::registry::{Registry, run};
use crate::words;

/// An image of two platforms in a layout, and in a registry.
struct Published {
    registry: Registry,
    image: Image,
    /// The index, and our platform's manifest, config and layer.
    index: Digest,
    ours: [Digest; 3],
    dir: TempDir,
}

fn published() -> Published {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(&dir.path().join("source")).unwrap();
    let put = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = layout.write_blob(bytes).unwrap();
        json!({ "mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest, "size": bytes.len() })
    };
    let mut ours = Vec::new();
    let mut entries = Vec::new();
    for architecture in ["arm64", "amd64"] {
        let layer = put("layer.v1.tar", format!("a layer for {architecture}").as_bytes());
        let rootfs = json!({ "type": "layers", "diff_ids": [layer["digest"]] });
        let config = json!({ "architecture": architecture, "os": "linux", "rootfs": rootfs }).to_string();
        let config = put("config.v1+json", config.as_bytes());
        let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": [layer] });
        let mut entry = put("manifest.v1+json", manifest.to_string().as_bytes());
        ours =
            [&entry, &config, &layer].map(|blob| blob["digest"].as_str().unwrap().parse().unwrap()).to_vec();
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entries.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries });
    let mut entry = put("index.v1+json", index.to_string().as_bytes());
    let index = entry["digest"].as_str().unwrap().parse().unwrap();
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    let top = json!({ "schemaVersion": 2, "manifests": [entry] });
    std::fs::write(layout.root().join("index.json"), top.to_string()).unwrap();
    let registry = Registry::plain();
    let name = format!("{}/team/image", registry.host());
    let (from, to) = (format!("oci:{}:1", layout.root().display()), format!("docker://{name}:1"));
    let options =
        ["copy", "--all", "--quiet", "--insecure-policy", "--preserve-digests", "--dest-tls-verify=false"];
    run("skopeo", &[&options[..], &[&from, &to]].concat());
    let image = format!("{name}@{index}").parse().unwrap();
    Published { registry, image, index, ours: ours.try_into().unwrap(), dir }
}

#[test]
fn an_index_is_followed_to_our_platform_and_nothing_is_fetched_twice() {
    let published = published();
    let client = Client::new(Options::default()).unwrap();
    let cache = Layout::create(&published.dir.path().join("cache")).unwrap();
    let [manifest, config, layer] = published.ours;
    for _ in 0..2 {
        let files = client.pull_image(&published.image, published.index, &cache).unwrap();
        assert_eq!((files.manifest.digest, files.config.digest), (manifest, config));
        assert_eq!(files.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>(), [layer]);
    }
    let log = published.registry.log();
    for digest in [manifest, config, layer, published.index] {
        let gets = log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains(&digest.hex()));
        assert_eq!(gets.count(), 1, "{digest}: {log}");
    }
    assert_eq!(
        std::fs::read_dir(cache.root().join("blobs/sha256")).unwrap().count(),
        4,
        "only our platform's"
    );
    // What rotted in the cache is fetched again.
    std::fs::write(cache.blob_path(layer), "a lair for amd64").unwrap();
    client.pull_image(&published.image, published.index, &cache).unwrap();
    assert_eq!(std::fs::read(cache.blob_path(layer)).unwrap(), b"a layer for amd64");
}

fn push(published: &Published, to: &str, from: Option<&str>, layout: &Layout) -> Result<PushedImage, String> {
    let client = Client::new(Options::default()).unwrap();
    let from = from.map(|from| from.parse::<Repository>().unwrap());
    // The layer of our platform is the only one that may be missing here.
    let mounts = from.into_iter().map(|from| (published.ours[2], from)).collect();
    let (to, tag) = (to.parse().unwrap(), "1".parse().unwrap());
    let (digest, repository, tag, mounts) = (published.index, &to, &tag, &mounts);
    let shipment = Shipment { layout, digest, repository, tag, mounts, again: false };
    client.push_image(shipment).map_err(|error| words(&error))
}

#[test]
fn an_index_is_pushed_with_all_that_it_leads_to_and_again_with_one_request() {
    let published = published();
    let layout = Layout::open(&published.dir.path().join("source")).unwrap();
    let to = format!("{}/other/image", published.registry.host());
    let first = push(&published, &to, None, &layout).unwrap();
    assert_eq!((first.blobs_sent, first.blobs_mounted, first.tag_moved), (4, 0, true));
    assert_eq!(first.bytes_sent, 336, "two layers and two configs");
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{to}:1")]);
    assert_eq!(Digest::of(&raw), published.index);

    let before = published.registry.requests();
    let again = push(&published, &to, None, &layout).unwrap();
    assert_eq!((again.blobs_sent, again.tag_moved), (0, false));
    assert_eq!(published.registry.requests() - before, 1, "{}", published.registry.log());
}

#[test]
fn a_blob_that_is_only_in_a_base_is_mounted_or_passed_on() {
    let published = published();
    let layout = Layout::open(&published.dir.path().join("source")).unwrap();
    std::fs::remove_file(layout.blob_path(published.ours[2])).unwrap();
    let base = published.image.repository.to_string();

    let to = format!("{}/other/image", published.registry.host());
    let missing = push(&published, &to, None, &layout).unwrap_err();
    assert!(
        missing.contains(&published.ours[2].to_string()) && missing.contains("nor in a base"),
        "{missing}"
    );
    let mounted = push(&published, &to, Some(&base), &layout).unwrap();
    assert_eq!((mounted.blobs_mounted, mounted.tag_moved), (1, true));

    let elsewhere = Registry::plain();
    let to = format!("{}/image", elsewhere.host());
    let passed = push(&published, &to, Some(&base), &layout).unwrap();
    assert_eq!((passed.blobs_sent, passed.blobs_mounted), (4, 0));
    assert_eq!(std::fs::read(elsewhere.blob(published.ours[2])).unwrap(), b"a layer for amd64");

    // A base that lies is not passed on.
    std::fs::write(published.registry.blob(published.ours[2]), "a lawyer for amd4").unwrap();
    let other = Registry::plain();
    let lied = push(&published, &format!("{}/image", other.host()), Some(&base), &layout).unwrap_err();
    assert!(lied.contains("has other bytes there"), "{lied}");
    assert!(!other.blob(published.ours[2]).exists());
}

#[test]
fn of_a_base_only_the_documents_are_fetched() {
    let published = published();
    let client = Client::new(Options::default()).unwrap();
    let base = client.manifest_and_config(&published.image, &Platform::droplet()).unwrap();
    assert_eq!((base.digest, base.files.manifest.digest), (published.index, published.ours[0]));
    assert_eq!(Digest::of(&base.config), published.ours[1]);
    assert_eq!(Digest::of(&base.index.unwrap()), published.index);
    let log = published.registry.log();
    assert!(!log.contains(&format!("\"GET /v2/team/image/blobs/{}", published.ours[2])), "{log}");
    let arm = client.manifest_and_config(&published.image, &"linux/arm64".parse().unwrap()).unwrap();
    assert_ne!(arm.files.manifest.digest, published.ours[0]);
    let none = client.manifest_and_config(&published.image, &"linux/riscv64".parse().unwrap()).unwrap_err();
    assert!(words(&none).contains("it has none for linux/riscv64"), "{}", words(&none));
}

#[test]
fn other_bytes_than_the_digest_says_are_not_kept() {
    let published = published();
    let client = Client::new(Options::default()).unwrap();
    let layer = published.ours[2];
    std::fs::write(published.registry.blob(layer), "a lawyer for amd4").unwrap();
    let cache = Layout::create(&published.dir.path().join("cache")).unwrap();
    let error = client.pull_image(&published.image, published.index, &cache).unwrap_err();
    assert!(words(&error).contains("gives other bytes"), "{}", words(&error));
    assert!(!cache.blob_path(layer).exists());
}
