use serde_json::json;

use super::super::fixture;
use super::*;
use crate::model::SecretOrigin;

fn release_of(spec: &Spec) -> Digest {
    fixture::render(spec).release().unwrap()
}

#[test]
fn renders() {
    let tree = fixture::tree();
    insta::assert_snapshot!("data.yaml", fixture::text(&tree, DATA, Slot::Blue));
    insta::assert_snapshot!("blue.yaml", fixture::text(&tree, slot_path(Slot::Blue), Slot::Blue));
    insta::assert_snapshot!("green.yaml", fixture::text(&tree, slot_path(Slot::Green), Slot::Blue));
}

#[test]
fn a_new_image_moves_the_release_and_leaves_data_alone() {
    let (before, mut spec) = (fixture::tree(), fixture::spec());
    spec.services.get_mut("backend").unwrap().image.digest = Digest::of(b"newer");
    let after = fixture::render(&spec);
    assert_ne!(before.release(), after.release());
    assert_eq!(before.get(DATA, Slot::Blue), after.get(DATA, Slot::Blue));
}

#[test]
fn a_setting_of_redis_leaves_the_slots_alone() {
    let before = fixture::tree();
    let after = fixture::render_with(&fixture::spec(), "maxmemory = '256mb'", "maxmemory = '512mb'");
    assert_eq!(before.release(), after.release());
    for slot in Slot::BOTH {
        assert_eq!(before.get(slot_path(slot), slot), after.get(slot_path(slot), slot));
    }
    assert_ne!(before.get(DATA, Slot::Blue), after.get(DATA, Slot::Blue));
}

#[test]
fn whatever_a_slot_service_is_made_of_moves_the_release() {
    let before = release_of(&fixture::spec());
    let changes: [fn(&mut Spec); 5] = [
        |spec| drop(spec.services.get_mut("worker").unwrap().environment.insert("A".into(), "b".into())),
        |spec| spec.services.get_mut("backend").unwrap().hosts.slot += 40,
        |spec| spec.networks.green = "10.89.9.0/24".parse().unwrap(),
        |spec| {
            let template = SecretOrigin::Template("{{ postgres_password }}".to_owned());
            spec.secrets.insert("database_url".parse().unwrap(), template);
        },
        |spec| spec.services.get_mut("worker").unwrap().placement = Placement::Slot,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut spec = fixture::spec();
        change(&mut spec);
        assert_ne!(release_of(&spec), before, "change {number}");
    }
}

#[test]
fn the_two_slots_differ_in_name_and_address_only() {
    let tree = fixture::tree();
    let blue = fixture::text(&tree, slot_path(Slot::Blue), Slot::Blue);
    let green = fixture::text(&tree, slot_path(Slot::Green), Slot::Blue);
    let without = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("ipv4_address"));
        let mut lines: Vec<String> =
            lines.map(|line| line.replace("blue", "SLOT").replace("green", "SLOT")).collect();
        lines.sort();
        lines
    };
    assert_eq!(without(&blue), without(&green));
}

#[test]
fn a_dollar_is_spelled_as_compose_spells_it() {
    let mut spec = fixture::spec();
    let worker = spec.services.get_mut("worker").unwrap();
    worker.environment.insert("PRICE".into(), "5$$".into());
    let tree = fixture::render(&spec);
    let text = fixture::text(&tree, slot_path(Slot::Blue), Slot::Blue);
    assert!(text.contains("5$$") && !text.contains("5$$$"), "{text}");
}

#[test]
fn the_profile_keeps_its_own_security_options_and_labels() {
    let mut spec = fixture::spec();
    let worker = spec.services.get_mut("worker").unwrap();
    worker.compose.insert("security_opt".into(), json!(["apparmor:docker-default"]));
    worker.compose.insert("labels".into(), json!(["team=market", "flag"]));
    worker.compose.insert("cap_drop".into(), json!(["NET_RAW"]));
    let mut tree = Tree::default();
    Compose {}.render(&spec, &mut tree).unwrap();
    let model = Model::of(&spec, &tree, &"worker".parse().unwrap(), &spec.services["worker"]).finish();
    assert_eq!(model["security_opt"], json!(["apparmor:docker-default", "no-new-privileges:true"]));
    assert_eq!(model["labels"]["team"], "market");
    assert_eq!(model["labels"]["flag"], "");
    assert_eq!(model["cap_drop"], json!(["NET_RAW"]));
}
