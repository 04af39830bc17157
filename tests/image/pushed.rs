//! An image and its bundle in Debian's `docker-registry`: what it takes to push them, what is attached to them, and what
//! comes back.

use std::fs;
use std::process::{Command, Output};

use bundle::registry::{Options, Referrer, Registry as Client, Repository};
use serde_json::Value;
use tempfile::TempDir;

use crate::listing::listing;
use crate::project::{AS_IT_IS, Project, TREE, shell};
use crate::registry::{PASSWORD, Registry, USER, run};

const RECIPE: &str = "layers = [{ from = \"tree\", to = \"/srv\" }]\ncmd = [\"/srv/a\"]";

fn project(registry: &Registry, recipe: &str) -> Project {
    let project = Project::with(TempDir::new().unwrap(), registry.host(), recipe);
    shell(project.path(), "mkdir tree; echo a >tree/a; seq 1000 >tree/numbers");
    project
}

fn done(output: Output) -> (Value, String) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

fn push(project: &Project, more: &[&str]) -> (Value, String) {
    done(project.run(&[&["push", "p.toml", "--json"], more].concat()))
}

#[test]
fn a_push_with_nothing_to_do_is_two_requests() {
    let registry = Registry::plain();
    let project = project(&registry, RECIPE);
    let (_, said) = push(&project, &[]);
    assert!(said.contains("image web: 2 blobs sent"), "{said}");
    let (before, writes) = (registry.requests(), registry.writes());
    let (pushed, said) = push(&project, &[]);
    assert_eq!(pushed["blobs_sent"], 0);
    assert_eq!((registry.requests() - before, registry.writes()), (2, writes), "{said}\n{}", registry.log());

    // What was lost although a tag said that it is there, comes back when it is asked for.
    let image = String::from_utf8(project.run(&["image", "p.toml", "web"]).stdout).unwrap();
    let hex = image.trim().strip_prefix("sha256:").unwrap();
    let lost = registry.blob(image.trim().parse().unwrap());
    let tags = lost.ancestors().nth(5).unwrap().join("repositories/team/app/_manifests");
    fs::remove_dir_all(tags.join(format!("tags/image-{hex}"))).unwrap();
    fs::remove_dir_all(tags.join(format!("revisions/sha256/{hex}"))).unwrap();
    let (_, said) = push(&project, &["--again"]);
    assert!(said.contains("image web: 0 blobs sent"), "{said}");
    assert!(tags.join(format!("tags/image-{hex}")).exists());
}

#[test]
fn a_bundle_that_is_there_under_one_tag_gets_the_other() {
    let registry = Registry::plain();
    let project = project(&registry, RECIPE);
    push(&project, &[]);
    let tags = registry.blob(bundle::model::Digest::of(b""));
    let tags = tags.ancestors().nth(5).unwrap().join("repositories/team/app/_manifests/tags");
    for name in fs::read_dir(&tags).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = name.into_string().unwrap();
        if name.starts_with("image-") || name.starts_with("sha256-") {
            continue;
        }
        fs::rename(tags.join(&name), registry.certificates().with_file_name("lost")).unwrap();
        push(&project, &[]);
        assert!(tags.join(&name).exists(), "{name}");
        fs::remove_dir_all(registry.certificates().with_file_name("lost")).unwrap();
    }
}

/// What is attached to a manifest, by its type: the bytes, and which attachment it is.
fn attached(registry: &Registry, digest: &str, kind: &str) -> (Vec<u8>, Referrer) {
    let client = Client::new(Options::default()).unwrap();
    let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
    let found = client.referrers(&repository, digest.parse().unwrap()).unwrap();
    assert_eq!(found.len(), 2, "{found:#?}");
    let found = found.into_iter().find(|found| found.artifact_type == kind).unwrap();
    (client.attached(&repository, &found.layers[0], 1 << 20).unwrap(), found)
}

/// What SPDX 2.3 asks of a document, its packages and its relationships (spdx.github.io/spdx-spec/v2.3, clauses 6, 7, 11).
fn assert_is_spdx(document: &Value) {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (text(document, "spdxVersion"), text(document, "dataLicense")),
        ("SPDX-2.3".into(), "CC0-1.0".into())
    );
    assert_eq!(document["SPDXID"], "SPDXRef-DOCUMENT");
    for key in ["name", "documentNamespace"] {
        assert!(!text(document, key).is_empty(), "{key}");
    }
    assert!(text(document, "documentNamespace").starts_with("https://"));
    assert!(text(&document["creationInfo"], "created").ends_with('Z'));
    assert!(document["creationInfo"]["creators"][0].as_str().unwrap().starts_with("Tool: bundle-"));
    let mut ids = vec!["SPDXRef-DOCUMENT".to_owned()];
    for package in document["packages"].as_array().unwrap() {
        let id = text(package, "SPDXID");
        let rest = id.strip_prefix("SPDXRef-").unwrap();
        assert!(rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.'), "{id}");
        assert!(!ids.contains(&id), "{id} twice");
        ids.push(id);
        assert!(!text(package, "name").is_empty() && !text(package, "downloadLocation").is_empty());
        assert_eq!(package["checksums"][0]["checksumValue"].as_str().unwrap().len(), 64);
    }
    for related in document["relationships"].as_array().unwrap() {
        for key in ["spdxElementId", "relatedSpdxElement"] {
            assert!(ids.contains(&text(related, key)), "{related}");
        }
    }
}

/// Debian's mirror that this machine's apt asks, else the public one.
fn mirror() -> String {
    let asked = ["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"];
    let found = String::from_utf8(run("apt-get", &asked)).unwrap();
    let found = found.lines().find_map(|line| line.strip_prefix("Debian|Debian|").map(str::to_owned));
    found.unwrap_or_else(|| bundle::spec::DEBIAN_MIRROR.to_owned())
}

#[test]
fn what_an_image_and_its_bundle_are_made_of_is_attached_and_the_same_from_everywhere() {
    let registry = Registry::plain();
    let recipe = format!("packages = [\"netbase\"]\n{RECIPE}\n[debian]\nmirror = \"{}\"", mirror());
    let first = project(&registry, &recipe);
    let (pushed, _) = push(&first, &[]);
    let image = String::from_utf8(first.run(&["image", "p.toml", "web"]).stdout).unwrap();
    let (sbom, sbom_there) = attached(&registry, image.trim(), "application/spdx+json");
    let (statement, there) = attached(&registry, image.trim(), "application/vnd.in-toto+json");
    assert_eq!(there.annotations["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v1");
    let document: Value = serde_json::from_slice(&sbom).unwrap();
    assert_is_spdx(&document);
    let purls: Vec<&str> = document["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
        .collect();
    assert!(purls.iter().any(|purl| purl.starts_with("pkg:deb/debian/netbase@")), "{purls:?}");
    let statement: Value = serde_json::from_slice(&statement).unwrap();
    assert_eq!(
        format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap()),
        image.trim()
    );
    let definition = &statement["predicate"]["buildDefinition"];
    let dependencies = definition["resolvedDependencies"].as_array().unwrap();
    let pinned = |ending: &str| {
        let uri = |found: &&Value| found["uri"].as_str().is_some_and(|uri| uri.contains(ending));
        dependencies.iter().find(uri).unwrap_or_else(|| panic!("{ending}: {dependencies:#?}"))
    };
    assert_eq!(pinned("/pool/main/n/netbase/")["digest"]["sha256"].as_str().unwrap().len(), 64);
    let key = pinned("/InRelease")["annotations"]["keys"][0].as_str().unwrap();
    assert!(key.len() >= 40, "{key}");
    assert_eq!(definition["externalParameters"]["profile"], "p.toml");

    let manifest = pushed["manifest"].as_str().unwrap();
    let (of_bundle, _) = attached(&registry, manifest, "application/spdx+json");
    assert_is_spdx(&serde_json::from_slice(&of_bundle).unwrap());
    let (statement, _) = attached(&registry, manifest, "application/vnd.in-toto+json");
    assert!(String::from_utf8(statement).unwrap().contains("/pool/main/n/netbase/"));

    // The same project in another place, whose name is no part of anything, and asked from elsewhere.
    let second = project(&registry, &recipe);
    fs::copy(first.path().join("bundle.lock"), second.path().join("bundle.lock")).unwrap();
    let path = second.path().join("p.toml").display().to_string();
    let mut words = Command::new(env!("CARGO_BIN_EXE_bundle"));
    words.current_dir("/").args(["--root", &second.path().join("elsewhere").display().to_string()]);
    done(words.args(["push", &path, "--json", "--again"]).output().unwrap());
    let (same, same_there) = attached(&registry, image.trim(), "application/spdx+json");
    assert_eq!((same, same_there), (sbom, sbom_there));

    let third = project(&registry, RECIPE);
    let (pushed, _) = push(&third, &["--no-provenance"]);
    let client = Client::new(Options::default()).unwrap();
    let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
    let subject = pushed["manifest"].as_str().unwrap().parse().unwrap();
    assert_eq!(client.referrers(&repository, subject).unwrap(), []);
}

#[test]
fn behind_tls_and_a_password_it_comes_back_as_it_was_made() {
    let registry = Registry::with_tls();
    let project = Project::with(TempDir::new().unwrap(), registry.host(), AS_IT_IS);
    shell(project.path(), TREE);
    let options = registry.options(PASSWORD);
    let login = options.environment.registry_auth_file.unwrap();
    let trust = registry.certificates();
    let authority = trust.join("ca.crt").display().to_string();
    let with_login = |arguments: &[&str]| {
        let mut command = project.command();
        command.env("REGISTRY_AUTH_FILE", &login).args(arguments).args(["--registry-ca", &authority]);
        command.output().unwrap()
    };
    let said = with_login(&["push", "p.toml"]);
    assert!(said.status.success(), "{said:?}");
    let digest = String::from_utf8(project.run(&["image", "p.toml", "web"]).stdout).unwrap();
    let digest = digest.trim();

    let credentials = format!("--src-creds={USER}:{PASSWORD}");
    let certificates = format!("--src-cert-dir={}", trust.display());
    let copy = project.path().join("copy");
    let to = format!("oci:{}:web", copy.display());
    for name in [format!("@{digest}"), format!(":image-{}", digest.strip_prefix("sha256:").unwrap())] {
        let from = format!("docker://{}/team/app{name}", registry.host());
        let flags = ["--quiet", "--insecure-policy", "--preserve-digests", &credentials, &certificates];
        run("skopeo", &[&["copy"], &flags[..], &[&from, &to]].concat());
        let found = run("skopeo", &["inspect", "--format", "{{.Digest}}", &to]);
        assert_eq!(String::from_utf8(found).unwrap().trim(), digest);
    }
    let image = format!("{}/team/app@{digest}", registry.host());
    // From the registry, and not from the cache of who built it.
    fs::remove_dir_all(project.path().join("cache")).unwrap();
    let unpacked = with_login(&["unpack", &image, "out"]);
    assert!(unpacked.status.success(), "{unpacked:?}");
    let timeless = |name: &str| -> Vec<(String, String)> {
        let all = listing(&project.path().join(name)).into_iter().filter(|(path, _)| path != ".");
        all.map(|(path, is)| {
            let (what, rest) = is.split_once(" at ").unwrap();
            (path, format!("{what} {}", rest.split_once(' ').map_or("", |(_, rest)| rest)))
        })
        .collect()
    };
    assert_eq!(timeless("out"), timeless("tree"));
}
