//! What became of every key of a Compose file: the report is written from this, and nothing may be missing from it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The way to a value. Mounts, ports and the like are named by their target instead of a number.
pub type Path = Vec<String>;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It stands in the profile and means the same.
    Carried,
    /// It stands in the profile in another form, or means something else.
    Changed,
    /// It does not stand in the profile.
    Left,
    /// The Compose file did not say it; the bundle does.
    Added,
}

/// One finding of the import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The key in the Compose model, or in the generated file if it was added. What is below it is meant, too.
    pub path: Path,
    /// What became of it.
    pub outcome: Outcome,
    /// What there is to know: as what it was carried, or why it was not. Empty where it was carried as it is.
    pub text: String,
    /// How to undo it, or what to do instead.
    pub instead: Option<String>,
}

/// The findings, and what is left to a person.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) findings: Vec<Finding>,
    pub(crate) todo: Vec<String>,
}

/// A path from its parts.
pub(crate) fn path<const N: usize>(parts: [&str; N]) -> Path {
    parts.iter().map(|&part| part.to_owned()).collect()
}

impl Ledger {
    fn push(&mut self, path: Path, outcome: Outcome, text: impl Into<String>, instead: Option<&str>) {
        let instead = instead.map(str::to_owned);
        self.findings.push(Finding { path, outcome, text: text.into(), instead });
    }

    pub(crate) fn carried(&mut self, path: Path) {
        self.push(path, Outcome::Carried, "", None);
    }

    pub(crate) fn changed(&mut self, path: Path, text: impl Into<String>, undo: Option<&str>) {
        self.push(path, Outcome::Changed, text, undo);
    }

    pub(crate) fn left(&mut self, path: Path, why: impl Into<String>, instead: Option<&str>) {
        self.push(path, Outcome::Left, why, instead);
    }

    pub(crate) fn added(&mut self, path: Path, text: impl Into<String>, undo: Option<&str>) {
        self.push(path, Outcome::Added, text, undo);
    }

    /// Something that only a person can do; said once.
    pub(crate) fn todo(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.todo.contains(&text) {
            self.todo.push(text);
        }
    }

    /// Takes back that `path`, or something below it, was carried: it turned out that it could not be.
    pub(crate) fn revoke(&mut self, path: &[String], why: &str, instead: Option<&str>) {
        self.findings.retain(|finding| finding.outcome == Outcome::Left || !finding.path.starts_with(path));
        self.left(path.to_vec(), why, instead);
    }

    /// The values of the model that no finding speaks of.
    pub(crate) fn unaccounted(&self, model: &Value) -> Vec<Path> {
        let leaves = leaves(model);
        let spoken = |leaf: &Path| {
            self.findings
                .iter()
                .any(|finding| finding.outcome != Outcome::Added && leaf.starts_with(&finding.path))
        };
        leaves.into_keys().filter(|leaf| !spoken(leaf)).collect()
    }
}

/// Every value of a model that has no parts, by its path. A list of plain values is one value; of a list of objects each
/// is named by its `target`, its `source`, or its number. What says nothing (`null`, an empty object) is none.
pub fn leaves(model: &Value) -> BTreeMap<Path, Value> {
    let mut all = BTreeMap::new();
    collect(model, &mut Vec::new(), &mut all);
    all
}

fn collect(value: &Value, at: &mut Path, all: &mut BTreeMap<Path, Value>) {
    match value {
        // A variable without a value is passed through from a shell, which is something.
        Value::Null if at.len() == 4 && at[2] == "environment" => drop(all.insert(at.clone(), Value::Null)),
        Value::Null => {}
        Value::Object(object) => {
            for (key, value) in object {
                at.push(key.clone());
                collect(value, at, all);
                at.pop();
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (nth, item) in items.iter().enumerate() {
                at.push(item_name(item, nth));
                collect(item, at, all);
                at.pop();
            }
        }
        Value::Array(items) if items.is_empty() => {}
        other => drop(all.insert(at.clone(), other.clone())),
    }
}

/// What an item of a list is called in a path. Ports of one target may differ in protocol and publication.
pub(crate) fn item_name(item: &Value, nth: usize) -> String {
    let text = |key: &str| match &item[key] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match (text("target"), text("published"), text("protocol")) {
        (Some(target), published, Some(protocol)) => {
            format!("{}:{target}/{protocol}", published.unwrap_or_default())
        }
        (Some(target), _, None) => target,
        _ => text("source").unwrap_or_else(|| nth.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_spoke_of_is_unaccounted() {
        let model = json!({"services": {"web": {
            "image": "x", "command": null, "tmpfs": ["/a", "/b"],
            "volumes": [{"target": "/data", "type": "volume"}],
            "ports": [{"target": 80, "protocol": "tcp", "published": "8080"}],
            "environment": {"A": null},
        }}});
        let mut ledger = Ledger::default();
        ledger.carried(path(["services", "web", "image"]));
        ledger.added(path(["services", "web", "tmpfs"]), "never counts", None);
        let left: Vec<String> = ledger.unaccounted(&model).iter().map(|path| path.join(" ")).collect();
        assert_eq!(
            left,
            [
                "services web environment A",
                "services web ports 8080:80/tcp protocol",
                "services web ports 8080:80/tcp published",
                "services web ports 8080:80/tcp target",
                "services web tmpfs",
                "services web volumes /data target",
                "services web volumes /data type",
            ]
        );
        ledger.left(path(["services", "web"]), "all of it", None);
        assert_eq!(ledger.unaccounted(&model), Vec::<Path>::new());
    }
}
