//! `bundle lock`: what it writes of an index, and which one it refuses.

use std::fs;
use std::path::Path;

use bundle::model::Digest;
use serde_json::{Value, json};

use crate::project::Project;
use crate::registry::{Registry, run};

/// A layout with one index of two platforms, and the registry that it goes to.
struct Upstream {
    project: Project,
    registry: Registry,
}

impl Upstream {
    fn new() -> Self {
        let image =
            "layers = [{ from = \"tree\", to = \"/\" }]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]";
        let project = Project::new(image);
        fs::create_dir(project.path().join("tree")).unwrap();
        fs::write(project.path().join("tree/f"), "x").unwrap();
        project.build();
        Self { project, registry: Registry::plain() }
    }

    fn layout(&self) -> std::path::PathBuf {
        self.project.path().join("layout")
    }

    fn index(&self) -> Value {
        let entry: Value =
            serde_json::from_slice(&fs::read(self.layout().join("index.json")).unwrap()).unwrap();
        serde_json::from_slice(
            &fs::read(self.blob(entry["manifests"][0]["digest"].as_str().unwrap())).unwrap(),
        )
        .unwrap()
    }

    fn blob(&self, digest: &str) -> std::path::PathBuf {
        self.layout().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
    }

    /// Publishes this index as `shop/web:1`; its digest.
    fn publish(&self, index: &Value) -> String {
        let bytes = serde_json::to_vec(index).unwrap();
        let digest = Digest::of(&bytes).to_string();
        fs::write(self.blob(&digest), &bytes).unwrap();
        let named = json!({ "org.opencontainers.image.ref.name": "1" });
        let entry = json!({ "mediaType": index["mediaType"], "digest": digest, "size": bytes.len(), "annotations": named });
        let root = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(self.layout().join("index.json"), root.to_string()).unwrap();
        let from = format!("oci:{}:1", self.layout().display());
        let to = format!("docker://{}/shop/web:1", self.registry.host());
        run(
            "skopeo",
            &[
                "copy",
                "--quiet",
                "--all",
                "--insecure-policy",
                "--dest-tls-verify=false",
                "--preserve-digests",
                &from,
                &to,
            ],
        );
        digest
    }

    /// Locks the profile of a user of that image.
    fn lock(&self, user: &Path, update: bool) -> (Option<i32>, String) {
        let mut command = self.project.command();
        command.current_dir(user).args(["lock", "p.toml"]).args(update.then_some("--update"));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }
}

#[test]
fn a_lock_tells_an_image_that_moved_from_one_that_moved_for_other_machines() {
    let upstream = Upstream::new();
    let user = tempfile::tempdir().unwrap();
    let profile = fs::read_to_string(upstream.project.path().join("p.toml")).unwrap();
    let (profile, _) = profile.split_once("[images.web]").unwrap();
    let image = format!("image = \"{}/shop/web:1\"", upstream.registry.host());
    fs::write(user.path().join("p.toml"), profile.replace("image = \"web\"", &image)).unwrap();

    let mut index = upstream.index();
    let amd64 = index["manifests"].as_array().unwrap();
    let amd64 =
        amd64.iter().find(|one| one["platform"]["architecture"] == "amd64").unwrap()["digest"].clone();
    let first = upstream.publish(&index);
    let (code, said) = upstream.lock(user.path(), false);
    assert_eq!(code, Some(0), "{said}");
    let lock = fs::read_to_string(user.path().join("bundle.lock")).unwrap();
    let pinned = |digest: &str| format!("digest = \"{digest}\"\n\"linux/amd64\" = {amd64}\n");
    assert!(lock.contains(&pinned(&first)), "{lock}");

    // For arm64 there is something new.
    index["manifests"].as_array_mut().unwrap().retain(|one| one["digest"] == amd64);
    let second = upstream.publish(&index);
    let (code, said) = upstream.lock(user.path(), true);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{second} (was {first}; for droplets it is the same image)")), "{said}");
    let lock = fs::read_to_string(user.path().join("bundle.lock")).unwrap();
    assert!(lock.contains(&pinned(&second)), "{lock}");
    assert_eq!(upstream.lock(user.path(), false).0, Some(10), "nothing to do");

    // What droplets cannot run is refused when it is locked, and the lock stays.
    index["manifests"][0]["platform"]["architecture"] = json!("arm64");
    upstream.publish(&index);
    let (code, said) = upstream.lock(user.path(), true);
    assert_ne!(code, Some(0));
    assert!(said.contains("linux/amd64") && said.contains("shop/web"), "{said}");
    assert_eq!(fs::read_to_string(user.path().join("bundle.lock")).unwrap(), lock);
}
