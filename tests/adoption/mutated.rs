//! Broken projects: whatever stands in a model or in a file, the import ends with a profile or with words, and says
//! something about every key.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;

use bundle::adopt::{self, Found};
use serde_json::{Map, Value, json};

use crate::project::Project;

/// Xorshift (Marsaglia, 2003): the same mutations every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most.max(1) as u64).unwrap()
    }
}

const PROJECTS: [&str; 8] =
    ["django", "laravel", "monitoring", "traefik", "minio", "mail", "supabase", "linuxserver"];

fn junk(dice: &mut Dice) -> Value {
    let all = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(18_446_744_073_709_551_615_u64),
        json!(""),
        json!("${"),
        json!("a\u{0}b\u{85}\"\"\"'''\\"),
        json!("{{ x }} {{"),
        json!("$"),
        json!("://:@"),
        json!("http://localhost:99999/é?"),
        json!("é".repeat(300)),
        json!([]),
        json!([null, [], {}]),
        json!({}),
        json!({ "": { "": null } }),
        json!({ "a.b": "c", "../..": ["-"] }),
        json!(adopt::mark(1)),
        json!([adopt::mark(1), "sh", "-c"]),
        json!("/etc/../../x:y"),
        json!("postgres"),
    ];
    all[dice.below(all.len())].clone()
}

/// Changes one node of a model.
fn mutate(value: &mut Value, dice: &mut Dice, depth: usize) {
    if depth > 1 && dice.below(4) == 0 {
        *value = junk(dice);
        return;
    }
    match value {
        Value::Object(object) if !object.is_empty() => {
            let key = object.keys().nth(dice.below(object.len())).unwrap().clone();
            // A model without services is not interesting more than once.
            match dice.below(12) + usize::from(depth == 0) * 2 {
                0 => drop(object.remove(&key)),
                1 => {
                    let value = object.remove(&key).unwrap();
                    let names = ["x-a", "Ä", "a b", "depends_on", "command", "image", "-blue", "web", ""];
                    object.insert(names[dice.below(names.len())].to_owned(), value);
                }
                _ => mutate(object.get_mut(&key).unwrap(), dice, depth + 1),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let nth = dice.below(items.len());
            match dice.below(8) {
                0 => drop(items.remove(nth)),
                1 => items.push(items[nth].clone()),
                _ => mutate(&mut items[nth], dice, depth + 1),
            }
        }
        other => *other = junk(dice),
    }
}

fn adopted(model: &Value) -> adopt::Adoption {
    let found = adopt::places(model).into_iter().enumerate().map(|(nth, path)| {
        let found = match nth % 4 {
            0 => Found::File { bytes: 10, text: true, executable: true },
            1 => Found::Directory { files: vec!["a".into(), "b/c".into()], bytes: 9, executable: false },
            2 => Found::Missing,
            _ => Found::Other,
        };
        (path, found)
    });
    let project = adopt::Project {
        model: model.clone(),
        directory: "/srv/project".to_owned(),
        above: "..".to_owned(),
        files: vec!["compose.yaml".to_owned()],
        marks: BTreeMap::from([(adopt::mark(1), "A_TOKEN".to_owned())]),
        found: found.collect(),
        ..adopt::Project::default()
    };
    adopt::adopt(&project)
}

/// The values that no finding speaks of.
fn silent(model: &Value, adoption: &adopt::Adoption) -> Vec<adopt::Path> {
    let spoken: BTreeSet<&adopt::Path> = adoption
        .findings
        .iter()
        .filter(|finding| finding.outcome != adopt::Outcome::Added)
        .map(|finding| &finding.path)
        .collect();
    let said = |leaf: &adopt::Path| (1..=leaf.len()).any(|length| spoken.contains(&leaf[..length].to_vec()));
    adopt::leaves(model).into_keys().filter(|leaf| !said(leaf)).collect()
}

#[test]
fn no_model_makes_the_import_panic_or_keep_something_back() {
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let (mut built, mut all) = (0, 0);
    for name in PROJECTS {
        let project = Project::shipped(name);
        let files: Vec<&str> = project.files.iter().map(String::as_str).collect();
        let model = project.model(&files, &BTreeMap::new());
        for _ in 0..40 {
            let mut broken = model.clone();
            for _ in 0..=dice.below(4) {
                mutate(&mut broken, &mut dice, 0);
            }
            let adoption = catch_unwind(|| adopted(&broken)).unwrap_or_else(|_| panic!("{name}: {broken}"));
            assert_eq!(silent(&broken, &adoption), Vec::<adopt::Path>::new(), "{name}: {broken}");
            for name in ["base.toml", "production.toml"] {
                let text = &adoption.files[name];
                assert!(text.parse::<toml::Table>().is_ok(), "{text}");
            }
            all += 1;
            built += u32::from(adoption.faults.is_empty());
            println!("{}", adoption.faults.lines().next().unwrap_or_default());
            assert!(adoption.faults.is_empty() || adoption.summary.contains("does not build yet"));
        }
    }
    println!("{built} of {all} broken models became profiles that build");
    assert!(built * 100 > all * 95, "{built} of {all}");
}

#[test]
fn an_empty_model_has_its_report_too() {
    for model in [Value::Null, json!({}), json!([]), json!({ "services": 3 }), Value::Object(Map::new())] {
        let adoption = adopted(&model);
        assert!(adoption.files.contains_key("IMPORT.md"));
    }
}

/// One change to a text, as somebody's editor might make it.
fn slip(text: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let nth = dice.below(lines.len());
    match dice.below(6) {
        0 => drop(lines.remove(nth)),
        1 => lines.insert(nth, lines[dice.below(lines.len())].clone()),
        2 => lines[nth] = format!("  {}", lines[nth]),
        3 => lines[nth] = lines[nth].replacen(':', "", 1),
        4 => lines[nth] = lines[nth].replacen('$', "$$$", 1),
        _ => lines[nth].push_str(" ${NEW:?say it} \u{1F600}"),
    }
    lines.join("\n")
}

#[test]
fn no_file_makes_the_program_panic() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut refused, mut imported) = (0, 0);
    for name in PROJECTS {
        let project = Project::shipped(name);
        let file = project.files[0].clone();
        let text = project.read(&file);
        for _ in 0..6 {
            project.write(&file, &slip(&text, &mut dice));
            let output = project.import();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!said.contains("panicked"), "{name}: {said}");
            match output.status.code() {
                Some(0) => {
                    imported += 1;
                    let checked = project.bundle(&["check", "production"]);
                    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
                }
                Some(1) => {
                    refused += 1;
                    assert!(
                        said.contains("error: ") || said.contains("does not build yet"),
                        "{name}: {said}"
                    );
                }
                code => panic!("{name}: {code:?}: {said}"),
            }
            let made = project.path().join("profiles");
            if made.exists() {
                std::fs::remove_dir_all(made).unwrap();
            }
        }
    }
    println!("{imported} files were imported, {refused} refused");
    assert!(imported > 5 && refused > 5, "{imported} {refused}");
}
