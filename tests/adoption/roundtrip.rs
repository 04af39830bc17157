//! Compose file → profile → bundle → Compose files: what Compose makes of both sides is the same, but for what the report
//! names; and the report names nothing that is not so.

use std::collections::{BTreeMap, BTreeSet};

use bundle::artifacts::KINDS;
use bundle::model::Slot;
use bundle::profile::{check, load};
use serde_json::Value;

use crate::project::{Project, repository};

type Leaves = BTreeMap<Vec<String>, String>;

/// A finding of the import, as printed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: Vec<String>,
    outcome: String,
}

/// Every plain value of a service. The test has its own way to take a model apart.
fn leaves(value: &Value, at: &[String], all: &mut Leaves) {
    let below = |name: &str| {
        let mut path = at.to_vec();
        path.push(name.to_owned());
        path
    };
    match value {
        Value::Null => {}
        Value::Object(object) => object.iter().for_each(|(key, value)| leaves(value, &below(key), all)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (nth, item) in items.iter().enumerate() {
                let text =
                    |key: &str| item[key].as_str().map_or_else(|| item[key].to_string(), str::to_owned);
                let name = match () {
                    () if item.get("protocol").is_some() => {
                        let published = item.get("published").map(|_| text("published")).unwrap_or_default();
                        format!("{published}:{}/{}", text("target"), text("protocol"))
                    }
                    () if item.get("target").is_some() => text("target"),
                    () if item.get("source").is_some() => text("source"),
                    () => nth.to_string(),
                };
                leaves(item, &below(&name), all);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        plain => drop(all.insert(at.to_vec(), plain.to_string())),
    }
}

/// The services of the generated files, by the profile's names.
fn generated(project: &Project) -> BTreeMap<String, Value> {
    let path = project.path().join("profiles/production.toml");
    let resolved = check(&load(path.to_str().unwrap()), KINDS).unwrap_or_else(|faults| panic!("{faults}"));
    let tree = resolved.render().unwrap();
    let mut services = BTreeMap::new();
    for file in ["compose/data.yaml", "compose/blue.yaml"] {
        let Some(entry) = tree.get(file, Slot::Blue) else { continue };
        project.write(file, std::str::from_utf8(&entry.content).unwrap());
        let model = project.model(&[file], &BTreeMap::new());
        for (name, service) in model["services"].as_object().into_iter().flatten() {
            services.insert(name.trim_end_matches("-blue").to_owned(), service.clone());
        }
    }
    services
}

fn findings(printed: &Value) -> Vec<Finding> {
    let findings = printed["findings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings
        .map(|finding| Finding {
            path: finding["path"].as_array().unwrap().iter().map(text).collect(),
            outcome: text(&finding["outcome"]),
        })
        .collect()
}

/// Differences that no finding names, and findings that name no difference.
fn faults(original: &Value, services: &BTreeMap<String, Value>, findings: &[Finding]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut before_all = Leaves::new();
    leaves(original, &[], &mut before_all);
    let spoken: BTreeSet<&Vec<String>> =
        findings.iter().filter(|finding| finding.outcome != "added").map(|finding| &finding.path).collect();
    for leaf in before_all.keys() {
        if !(1..=leaf.len()).any(|length| spoken.contains(&leaf[..length].to_vec())) {
            faults.push(format!("nothing is said about {leaf:?}"));
        }
    }
    for (name, service) in original["services"].as_object().unwrap() {
        let Some(after_model) = services.get(&name.to_ascii_lowercase()) else {
            let path = vec!["services".to_owned(), name.clone()];
            if !findings.contains(&Finding { path, outcome: "left".to_owned() }) {
                faults.push(format!("`{name}` is gone, and nothing says so"));
            }
            continue;
        };
        let at = ["services".to_owned(), name.clone()];
        let (mut before, mut after) = (Leaves::new(), Leaves::new());
        leaves(service, &at, &mut before);
        leaves(after_model, &at, &mut after);
        let named = |leaf: &[String], carried: bool| {
            findings
                .iter()
                .any(|finding| (finding.outcome == "carried") == carried && leaf.starts_with(&finding.path))
        };
        let all: BTreeSet<&Vec<String>> = before.keys().chain(after.keys()).collect();
        for leaf in all {
            let same = before.get(leaf) == after.get(leaf);
            if !same && !named(leaf, false) {
                faults.push(format!(
                    "{leaf:?}: {:?} became {:?}, and nothing says so",
                    before.get(leaf),
                    after.get(leaf)
                ));
            }
        }
        // The other way round: what is called changed, left or added is not what it was.
        for finding in
            findings.iter().filter(|finding| finding.outcome != "carried" && finding.path.starts_with(&at))
        {
            let below = |leaves: &Leaves| -> Leaves {
                let some = leaves.iter().filter(|(leaf, _)| leaf.starts_with(&finding.path));
                some.map(|(leaf, text)| (leaf.clone(), text.clone())).collect()
            };
            let (old, new) = (below(&before), below(&after));
            // What Compose leaves out of its model (`null`, what is empty) can be spoken of all the same.
            if old == new && !old.is_empty() {
                faults.push(format!("{finding:?} is not so: {old:?}"));
            }
        }
    }
    faults
}

fn shipped() -> Vec<String> {
    let entries = std::fs::read_dir(repository().join("tests/adoption/projects")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Imports a project, and compares both sides.
fn round_trip(name: &str) -> Vec<String> {
    let project = Project::shipped(name);
    let printed = project.imported();
    assert_eq!(printed["builds"], true);
    // Its own example is what was read in the place of a file that is not there.
    for example in ["bot.env"] {
        let from = project.path().join(format!("{example}.example"));
        if from.exists() {
            std::fs::copy(from, project.path().join(example)).unwrap();
        }
    }
    let filled = printed["filled"].as_object().unwrap().iter();
    let filled = filled.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    let files: Vec<&str> = project.files.iter().map(String::as_str).collect();
    let original = project.model(&files, &filled);
    let built = project.bundle(&["build", "production"]);
    assert!(built.status.success(), "{name}: {}", String::from_utf8_lossy(&built.stderr));
    let faults = faults(&original, &generated(&project), &findings(&printed));
    faults.into_iter().map(|fault| format!("{name}: {fault}")).collect()
}

#[test]
fn every_project_means_the_same_but_for_what_the_report_names() {
    let names = shipped();
    assert!(names.len() >= 25, "{names:?}");
    let faults: Vec<String> = names.iter().flat_map(|name| round_trip(name)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_report_that_keeps_something_back_is_seen() {
    let project = Project::shipped("umami");
    let printed = project.imported();
    let original = project.model(&["docker-compose.yml"], &BTreeMap::new());
    let services = generated(&project);
    let all = findings(&printed);
    assert_eq!(faults(&original, &services, &all), Vec::<String>::new());
    for outcome in ["changed", "left", "added"] {
        let kept: Vec<Finding> = all.iter().filter(|finding| finding.outcome != outcome).cloned().collect();
        assert_ne!(faults(&original, &services, &kept), Vec::<String>::new(), "without `{outcome}`");
    }
    let mut lying = all.clone();
    let at = ["services", "umami", "init"].map(str::to_owned).to_vec();
    lying.push(Finding { path: at, outcome: "changed".to_owned() });
    assert_ne!(faults(&original, &services, &lying), Vec::<String>::new());
    let without = BTreeMap::from([("db".to_owned(), services["db"].clone())]);
    assert_ne!(faults(&original, &without, &all), Vec::<String>::new());
}
