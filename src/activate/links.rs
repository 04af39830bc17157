//! Which links a generation wants in `/etc`, and for env files elsewhere: a pure function of its manifest.

use super::side::Side;
use crate::model::Slot;
use crate::store::etc::Links;

const UNITS: &str = "etc/systemd/system/";

impl Side<'_> {
    /// Its links by absolute path: files below `etc/` through `current`, `.wants` links of units, masks.
    ///
    /// `systemctl enable` would link the raw store path; a link through `current` is right for every generation.
    pub fn links(&self) -> Links {
        let mut links = Links::new();
        let Some(manifest) = self.manifest else { return links };
        for entry in manifest.view(Slot::Blue) {
            let path = entry.path.as_str();
            if !path.starts_with("etc/") {
                continue;
            }
            let target = format!("/var/lib/bundle/current/{path}");
            for wants in entry.unit.iter().flat_map(|unit| &unit.wanted_by) {
                links.insert(format!("/{UNITS}{wants}.wants/{}", entry.path.name()), target.clone());
            }
            links.insert(format!("/{path}"), target);
        }
        for file in &manifest.secret_files {
            links.extend(file.link.iter().map(|link| (link.clone(), file.absolute())));
        }
        for unit in manifest.masks.keys() {
            links.insert(format!("/{UNITS}{unit}"), "/dev/null".to_owned());
        }
        links
    }
}
