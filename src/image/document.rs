//! The documents of an image: configuration, manifest, index (image-spec 1.1), canonical, so that one image has one digest.
//!
//! The configuration names the layers before compression and nothing of their encoding: its digest (Docker's image ID) is
//! the image's content, whatever encoder made the blobs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::base::BaseImage;
use super::write::Layer;
use crate::bundle::gz1;
use crate::bundle::oci::{Descriptor, ENCODER, INDEX_TYPE, MANIFEST_TYPE};
use crate::model::json::{CanonicalJsonError, to_vec};
use crate::spec::ImageConfig;

/// Media type of an image's configuration.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// When everything was made: nobody's clock is an input.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// Where programs are looked for if nobody says so: what Docker itself takes.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of an image with these layers on its base. `notes` says what each of them is.
pub fn config(
    asked: &ImageConfig,
    architecture: &str,
    base: Option<&BaseImage>,
    layers: &[(String, Layer)],
) -> Result<Vec<u8>, CanonicalJsonError> {
    let mut top = base.map(|base| base.config.clone()).unwrap_or_default();
    let mut run = match top.remove("config") {
        Some(Value::Object(run)) => run,
        _ => Map::new(),
    };
    run_as(asked, &mut run);
    let mut diff_ids = base.map(BaseImage::diff_ids).unwrap_or_default();
    let below = diff_ids.len();
    diff_ids.extend(layers.iter().map(|(_, layer)| layer.diff_id));
    // Who counts the layers of a history must come to the same number; a base without one has none.
    let history = match top.remove("history") {
        Some(Value::Array(history)) if below > 0 => Some(history),
        _ => (below == 0).then(Vec::new),
    };
    if let Some(mut history) = history {
        history.extend(layers.iter().map(|(note, _)| json!({ "created": CREATED, "created_by": note })));
        top.insert("history".to_owned(), history.into());
    }
    // Of the machine on which the base was built.
    for key in ["container", "container_config", "docker_version", "id", "parent", "author"] {
        top.remove(key);
    }
    top.insert("created".to_owned(), CREATED.into());
    top.insert("os".to_owned(), "linux".into());
    top.insert("architecture".to_owned(), architecture.into());
    top.insert("config".to_owned(), run.into());
    top.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    to_vec(&top)
}

/// Writes what the recipe says over what the base says.
fn run_as(asked: &ImageConfig, run: &mut Map<String, Value>) {
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            run.insert(key.to_owned(), value);
        }
    };
    set("User", asked.user.clone().map(Value::from));
    set("Entrypoint", asked.entrypoint.clone().map(Value::from));
    // The base's arguments were for the base's program.
    if asked.entrypoint.is_some() && asked.cmd.is_none() {
        set("Cmd", Some(Value::Null));
    }
    set("Cmd", asked.cmd.clone().map(Value::from));
    set("WorkingDir", asked.workdir.clone().map(Value::from));
    set("StopSignal", asked.stop_signal.clone().map(Value::from));
    run.retain(|_, value| !value.is_null());
    for (key, names) in [("ExposedPorts", &asked.ports), ("Volumes", &asked.volumes)] {
        if !names.is_empty() {
            let set = run.entry(key).or_insert_with(|| json!({}));
            for name in names {
                set[name] = json!({});
            }
        }
    }
    if !asked.labels.is_empty() {
        let labels = run.entry("Labels").or_insert_with(|| json!({}));
        if labels.is_null() {
            *labels = json!({});
        }
        for (key, value) in &asked.labels {
            labels[key] = value.as_str().into();
        }
    }
    let mut env = BTreeMap::new();
    for pair in run.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        env.insert(key.to_owned(), value.to_owned());
    }
    env.extend(asked.env.clone());
    env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
    let env: Vec<Value> = env.into_iter().map(|(key, value)| format!("{key}={value}").into()).collect();
    run.insert("Env".to_owned(), env.into());
}

/// The manifest of a configuration and its layers, the base's first.
pub fn manifest(
    config: &Descriptor,
    base: Option<&BaseImage>,
    layers: &[(String, Layer)],
) -> Result<Vec<u8>, CanonicalJsonError> {
    let below = base.into_iter().flat_map(|base| base.layers.iter());
    let layers: Vec<&Descriptor> = below.chain(layers.iter().map(|(_, layer)| &layer.blob)).collect();
    to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config,
        "layers": layers,
        "annotations": { ENCODER: gz1::ID },
    }))
}

/// The index of one manifest for each architecture.
pub fn index(manifests: &[(String, Descriptor)]) -> Result<Vec<u8>, CanonicalJsonError> {
    let entry = |(architecture, manifest): &(String, Descriptor)| {
        json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let manifests: Vec<Value> = manifests.iter().map(entry).collect();
    to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests }))
}
