//! What others read in an image of ours.

use std::fs;
use std::path::Path;
use std::process::Command;

use jsonschema::Registry;
use serde_json::Value;

use crate::listing::listing;
use crate::project::{AS_IT_IS, Project, TREE, shell};

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is installed (tests/setup): {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn made() -> Project {
    let project = Project::new(AS_IT_IS);
    shell(project.path(), TREE);
    project.build();
    project
}

/// Without times, which no layer has, and without the root, which is no entry.
fn timeless(root: &Path) -> Vec<(String, String)> {
    let all = listing(root).into_iter().filter(|(path, _)| path != ".");
    all.map(|(path, is)| {
        let (what, rest) = is.split_once(" at ").unwrap();
        let rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
        (path, format!("{what} {rest}"))
    })
    .collect()
}

#[test]
fn umoci_and_we_unpack_the_tree_that_it_was_made_of() {
    let project = made();
    let source = timeless(&project.path().join("tree"));
    assert!(source.len() > 20, "{source:#?}");
    let image = format!("{}:web", project.layout().display());
    let theirs = project.path().join("theirs");
    run("umoci", &["unpack", "--image", &image, theirs.to_str().unwrap()]);
    assert_eq!(timeless(&theirs.join("rootfs")), source);
    let ours = project.run(&["unpack", &format!("oci:{image}"), "ours"]);
    assert!(ours.status.success(), "{ours:?}");
    assert_eq!(timeless(&project.path().join("ours")), source);
    let epoch = listing(&project.path().join("ours"));
    assert!(epoch.iter().all(|(path, is)| path == "." || is.contains(" at 0.0")), "{epoch:#?}");
}

#[test]
fn skopeo_copies_it_there_and_back_without_changing_a_digest() {
    let project = made();
    let at = |name: &str| project.path().join(name).display().to_string();
    let image = format!("oci:{}:web", at("layout"));
    let (there, back) = (format!("dir:{}", at("there")), format!("oci:{}:web", at("back")));
    for (from, to) in [(&image, &there), (&there, &back)] {
        run("skopeo", &["copy", "--quiet", "--insecure-policy", "--preserve-digests", from, to]);
    }
    let digest = |image: &str| run("skopeo", &["inspect", "--format", "{{.Digest}}", image]);
    assert_eq!(digest(&image), digest(&back));
    // It reads what is in the layers, too.
    run(
        "skopeo",
        &["copy", "--quiet", "--insecure-policy", &image, &format!("docker-archive:{}:web:1", at("tar"))],
    );
}

/// The schemas of the specification (`schema/`), as Debian has them.
const SCHEMAS: &str = "/usr/share/gocode/src/github.com/opencontainers/image-spec/schema";

fn valid(schema: &str, document: &Value) {
    let read = |name: &str| -> Value {
        let path = Path::new(SCHEMAS).join(name);
        let text = fs::read(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}; run tests/setup", path.display()));
        serde_json::from_slice(&text).unwrap()
    };
    let root = read(schema);
    // They name each other by the addresses that they are published at.
    let others = ["content-descriptor.json", "defs.json", "defs-descriptor.json"];
    let bases = ["https://opencontainers.org/schema", "https://opencontainers.org/schema/image"];
    let resources = bases.map(|base| others.map(|name| (format!("{base}/{name}"), read(name)))).concat();
    let mut registry = Registry::new();
    for (at, schema) in &resources {
        registry = registry.add(at, schema).unwrap();
    }
    let registry = registry.prepare().unwrap();
    let validator = jsonschema::options().with_registry(&registry).build(&root).unwrap();
    let wrong: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{schema}: {wrong:#?}");
}

#[test]
fn every_document_is_valid_by_the_schemas_of_the_specification() {
    let recipe = "layers = [{ from = \"tree\", to = \"/srv\" }]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
        entrypoint = [\"/srv/x\"]\ncmd = [\"a\", \"a\"]\nuser = \"1:1\"\nworkdir = \"/srv\"\nports = [\"80/tcp\"]\nvolumes = [\"/srv\"]\n\
        stop_signal = \"SIGINT\"\nenv = { A = \"b=c\" }\nlabels = { \"org.example\" = \"y\" }";
    let project = Project::new(recipe);
    shell(project.path(), "mkdir tree; echo x >tree/x");
    project.build();
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(project.layout().join(path)).unwrap()).unwrap()
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        read(&format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()))
    };
    valid("image-layout-schema.json", &read("oci-layout"));
    let top = read("index.json");
    valid("image-index-schema.json", &top);
    let index = blob(&top["manifests"][0]);
    valid("image-index-schema.json", &index);
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2);
    for entry in manifests {
        let manifest = blob(entry);
        valid("image-manifest-schema.json", &manifest);
        let config = blob(&manifest["config"]);
        valid("config-schema.json", &config);
        assert_eq!(config["architecture"], entry["platform"]["architecture"]);
        for layer in manifest["layers"].as_array().unwrap() {
            let digest = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let file = project.layout().join("blobs/sha256").join(digest);
            let status =
                Command::new("gzip").arg("-t").stdin(fs::File::open(file).unwrap()).status().unwrap();
            assert!(status.success());
        }
    }
}

#[test]
fn it_is_built_on_what_is_there() {
    let below = made();
    let image = format!("layout:{}:web", below.layout().display());
    let above = Project::new(&format!(
        "base = \"{image}\"\nlayers = [{{ from = \"x\", to = \"/usr/bin/new\", file_mode = \"0755\" }}]"
    ));
    fs::write(above.path().join("x"), "new").unwrap();
    above.build();
    let unpacked = above.run(&["unpack", "oci:layout:web", "out"]);
    assert!(unpacked.status.success(), "{unpacked:?}");
    let mut expected = timeless(&below.path().join("tree"));
    let found = timeless(&above.path().join("out"));
    let new = found.iter().find(|(path, _)| path == "usr/bin/new").unwrap();
    assert!(new.1.starts_with("file 0755 3 "), "{new:?}");
    expected.push(new.clone());
    expected.sort();
    assert_eq!(found, expected, "directories above what is new are those of the base");
    // The same tree as a tarball.
    shell(below.path(), "tar -C tree --xattrs --xattrs-include=security.capability -czf tree.tar.gz .");
    let tarball = below.path().join("tree.tar.gz");
    let third = Project::new(&format!("base = \"rootfs:{}\"", tarball.display()));
    third.build();
    let unpacked = third.run(&["unpack", "oci:layout:web", "out"]);
    assert!(unpacked.status.success(), "{unpacked:?}");
    assert_eq!(timeless(&third.path().join("out")), timeless(&below.path().join("tree")));
}

#[test]
fn what_cannot_be_an_image_is_said_with_what_to_do() {
    for (recipe, expected) in [
        (
            "layers = [{ from = \"gone\", to = \"/\" }]",
            "`gone` cannot be copied into an image: No such file or directory",
        ),
        ("base = \"layout:gone\"\ncmd = [\"x\"]", "`gone` is not an OCI image layout"),
        ("base = \"rootfs:p.toml\"", "`p.toml` is no tar archive, and no gzip of one"),
        (
            "layers = [{ from = \"p.toml\", to = \"/a\" }, { from = \"p.toml\", to = \"/a/b\" }]",
            "`/a/b` cannot be there",
        ),
        (
            "links = [{ path = \"/bin\", target = \"usr/bin\" }]\nlayers = [{ from = \"p.toml\", to = \"/bin/x\" }]",
            "name the place that it leads to",
        ),
    ] {
        let project = Project::new(recipe);
        let output = project.run(&["image", "p.toml", "web"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{recipe}: {said}");
        assert!(
            said.contains("the image `web` cannot be built") && said.contains(expected),
            "{recipe}: {said}"
        );
    }
}
