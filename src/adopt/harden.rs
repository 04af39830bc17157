//! What the bundle does to every service that does not say otherwise, and as whom a service runs.

use serde_json::{Value, json};

use super::import::Import;
use super::report;
use super::roles::Role;
use super::service::Draft;
use crate::artifacts::compose;

/// What root's entrypoints need to prepare directories and become somebody else. Docker gives fourteen by default.
const ROOTS: &[&str] = &["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];

impl Import<'_> {
    pub(super) fn user(&mut self, draft: &mut Draft<'_>) {
        let said = &draft.model["user"];
        let at = draft.at(["user"]);
        let text = said.as_str().unwrap_or_default().to_owned();
        if draft.mounted.is_empty() && (!said.is_null() || draft.user.is_none()) {
            if !said.is_null() {
                draft.table.set("user", text).from(at.clone());
                self.ledger.carried(at);
            }
            return;
        }
        let numbers = draft.user.clone().unwrap_or_else(|| {
            self.ledger.todo(format!("`{}` reads secrets as files, which belong to its user: write that user's numbers as `user` (now `0:0`, root)", draft.old));
            "0:0".to_owned()
        });
        if said.is_null() {
            self.ledger.added(at.clone(), "its secrets are files that belong to this user", None);
        } else if text == numbers {
            self.ledger.carried(at.clone());
        } else {
            self.ledger.changed(
                at.clone(),
                "in numbers: its secrets are files that belong to this user",
                None,
            );
        }
        draft.table.set("user", numbers.clone()).from(at);
        draft.user = Some(numbers);
    }

    /// What the bundle does to every service that does not say otherwise.
    pub(super) fn harden(&mut self, draft: &mut Draft<'_>) {
        let said = |key: &str| !draft.model[key].is_null();
        let added: Vec<&str> =
            draft.model["cap_add"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let rootless = draft.user.as_deref().or(draft.model["user"].as_str()).is_some_and(|user| {
            !["0", "0:0", "root", "root:root"].contains(&user) && !user.starts_with("0:")
        });
        let (at_add, at_drop) = (draft.at(["cap_add"]), draft.at(["cap_drop"]));
        if said("cap_drop") {
            if !added.is_empty() {
                draft.table.set("cap_add", json!(added)).from(at_add.clone());
                self.ledger.carried(at_add);
            }
        } else {
            self.ledger.added(
                at_drop,
                "all capabilities are dropped but those in `cap_add`",
                Some("`cap_drop = []` keeps Docker's own choice"),
            );
            let mut all: Vec<&str> = if rootless { Vec::new() } else { ROOTS.to_vec() };
            if draft.known.own_init {
                all.extend(["KILL", "SYS_CHROOT"]);
            }
            all.extend(added.iter().filter(|one| !ROOTS.contains(*one)));
            all.sort_unstable();
            all.dedup();
            if !all.is_empty() {
                draft.table.set("cap_add", json!(all)).from(at_add.clone());
                if added == all {
                    self.ledger.carried(at_add);
                } else if added.is_empty() {
                    self.ledger.added(
                        at_add,
                        "what an entrypoint needs that begins as root and becomes somebody else",
                        Some("take out what it runs without"),
                    );
                } else {
                    self.ledger.changed(
                        at_add,
                        "with what an entrypoint needs that begins as root and becomes somebody else",
                        Some("take out what it runs without"),
                    );
                }
            }
        }
        if draft.known.own_init && !said("init") {
            self.ledger.added(
                draft.at(["init"]),
                "it brings a process manager that must be the first process",
                None,
            );
            draft.table.set("init", false);
        }
        if let Some(memory) = draft.known.memory.filter(|_| !draft.table.has("mem_limit")) {
            draft.table.set("mem_limit", memory).note("A guess: it is known to need some.");
            self.ledger.added(
                draft.at(["mem_limit"]),
                format!("{memory}: a guess, because it is known to need some"),
                Some("write what it needs"),
            );
        }
        self.defaults(draft);
        for (key, text) in [
            ("security_opt", "`no-new-privileges`: no program in it gains rights by set-user-ID bits"),
            ("container_name", "containers are called by service and slot"),
            ("image", "by digest"),
            ("labels", "labels of the bundle: `bundle.*`"),
            ("networks", "fixed addresses on the droplet's networks"),
            ("pull_policy", "images are there before anything starts"),
            ("restart", "the activator restarts what is current"),
        ] {
            if !self.is_ours(draft, key, &draft.model[key]) {
                self.ledger.added(draft.at([key]), text, None);
            }
        }
        if !draft.sealed.is_empty() {
            self.ledger.added(
                draft.at(["env_file"]),
                "what has secrets in it is put together on the droplet",
                None,
            );
        }
        if matches!(self.roles.get(draft.old), Some(Role::Migrations(_))) {
            self.ledger.added(draft.at(["profiles"]), "migrations are run by the switch", None);
        }
        for key in ["BUNDLE_ENVIRONMENT", "BUNDLE_RELEASE"] {
            self.ledger.added(
                draft.at(["environment", key]),
                "tells the service its environment and release",
                None,
            );
        }
    }

    /// The bundle's defaults, where neither the Compose file nor this import says otherwise.
    fn defaults(&mut self, draft: &mut Draft<'_>) {
        for (key, value) in compose::defaults() {
            // A log driver of the Compose file's stays behind, and this is what takes its place.
            let said = draft.table.has(key) || (key != "logging" && !draft.model[key].is_null());
            let quota = key == "cpus" && (draft.table.has("cpu_quota") || draft.table.has("cpu_period"));
            if said || quota || key == "cap_drop" {
                continue;
            }
            let shown = report::plain(&value);
            let (text, undo) = match key {
                "cpus" => {
                    (format!("at most {shown} processors"), "`cpus` with another number; `0` is no limit")
                }
                "init" => (
                    "a small first process reaps children and passes signals on".to_owned(),
                    "`init = false`",
                ),
                "logging" => (
                    "logs go to the journal, within limits".to_owned(),
                    "read them with `journalctl` or `docker logs`",
                ),
                "mem_limit" => (format!("at most {shown} of memory"), "`mem_limit` with what it needs"),
                "memswap_limit" => {
                    ("no swap: equal to `mem_limit`".to_owned(), "`memswap_limit` with more than `mem_limit`")
                }
                "pids_limit" => {
                    (format!("at most {shown} processes and threads"), "`pids_limit` with what it needs")
                }
                "stop_grace_period" => {
                    (format!("{shown} to stop, where Docker has 10s"), "`stop_grace_period = \"10s\"`")
                }
                "ulimits" => {
                    (format!("limits of open files, and no core dumps: {shown}"), "`ulimits` with its own")
                }
                _ => (format!("the bundle's default: {shown}"), "write the key with another value"),
            };
            // Said in the profile, too: the sum of all limits is checked against the droplet.
            if ["mem_limit", "cpus", "pids_limit"].contains(&key) {
                draft.table.set(key, value);
            }
            self.ledger.added(draft.at([key]), text, Some(undo));
        }
    }
}
