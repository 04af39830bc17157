//! A service's `configs` and `secrets`: files of the project, contents, and what an operator sends.

use serde_json::Value;

use super::document::Table;
use super::import::Import;
use super::ledger::{item_name, path};
use super::secrets::secret_name;
use super::service::Draft;

impl Import<'_> {
    /// Configs are files that travel.
    pub(super) fn configs(&mut self, draft: &mut Draft<'_>) {
        let model = draft.model;
        for (nth, grant) in model["configs"].as_array().into_iter().flatten().enumerate() {
            let at = draft.at(["configs", &item_name(grant, nth)]);
            let source = grant["source"].as_str().unwrap_or_default();
            let declared = self.model["configs"][source].clone();
            let top = path(["configs", source]);
            let target = grant["target"].as_str().map_or_else(|| format!("/{source}"), str::to_owned);
            let target = if target.starts_with('/') { target } else { format!("/{target}") };
            let executable = grant["mode"].as_str().is_some_and(|mode| mode.contains(['5', '7']))
                || grant["mode"].as_u64().is_some_and(|mode| mode & 0o111 != 0);
            if let Some(file) = declared["file"].as_str() {
                let below = self.project.within(file);
                if let (Some(below), true) = (below, self.travels(file)) {
                    self.file(&draft.name, &target, &below, executable, &at);
                    self.ledger.changed(
                        at,
                        format!("`{below}` travels in the bundle and is mounted by content, read-only"),
                        None,
                    );
                } else {
                    self.ledger.left(at, format!("`{file}` is not here, or is no file"), None);
                    self.ledger.todo(format!("`{}` wants the config `{source}` from `{file}`, which is not here: put it there, and add `[files.\"{}:{target}\"]`", draft.old, draft.name));
                }
            } else if let Some(content) =
                declared["content"].as_str().filter(|content| self.secrets.cut(content).is_none())
            {
                let key = format!("{}:{target}", draft.name);
                let mut table = Table::new(&["files", &key]);
                table.set("content", content.replace("$$", "$")).from(at.clone());
                self.files.insert(key, table);
                self.ledger.changed(at, "its content stands in `[files]`, and is mounted read-only", None);
            } else {
                self.ledger.left(at, "its content is not in the files", None);
                self.ledger.todo(format!("`{}` wants the config `{source}`, whose content is a secret or not in the files: write it as a `[secrets]` template, or as `[files.\"{}:{target}\"]`", draft.old, draft.name));
            }
            self.ledger.added(draft.at(["volumes", &target]), "a file that travels", None);
            self.ledger.changed(top, "see the services that use it", None);
        }
    }

    /// Secrets are files below `/run/secrets`, whose values the operator sends.
    pub(super) fn secret_files(&mut self, draft: &mut Draft<'_>) {
        let model = draft.model;
        for (nth, grant) in model["secrets"].as_array().into_iter().flatten().enumerate() {
            let at = draft.at(["secrets", &item_name(grant, nth)]);
            let source = grant["source"].as_str().unwrap_or_default();
            let target = grant["target"].as_str().unwrap_or(source);
            let file = target.strip_prefix("/run/secrets/").unwrap_or(target);
            let declared = self.model["secrets"][source].clone();
            let from = match (&declared["file"], &declared["environment"]) {
                (Value::String(file), _) => {
                    format!("the file `{}`", self.project.within(file).unwrap_or_else(|| file.clone()))
                }
                (_, Value::String(variable)) => format!("the variable `{variable}`"),
                _ => "wherever the project keeps it: it is external".to_owned(),
            };
            let name = secret_name(file);
            if name != file {
                self.ledger.todo(format!("`{}` reads the secret `{source}` at `{target}`, and finds it at `/run/secrets/{name}` now: tell it", draft.old));
            }
            self.secrets.declare(&name, &from, &draft.name);
            self.ledger.changed(
                at.clone(),
                format!("the secret `{name}`: the operator sends its value"),
                None,
            );
            self.ledger.changed(
                path(["secrets", source]),
                "a value is no part of a bundle: the operator sends it",
                None,
            );
            draft.mount(name, at);
        }
        let names: Vec<String> = draft.mounted.iter().map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.ledger.added(
                draft.at(["volumes", &format!("/run/secrets/{name}")]),
                "the secret, as a file that belongs to the service's user",
                None,
            );
        }
        let origins = draft.mounted.iter().map(|(_, at)| at.clone()).collect();
        if !names.is_empty() {
            draft.table.set("secrets", names).origins = origins;
        }
        if !draft.sealed.is_empty() {
            let file = format!("{}.env", draft.name);
            draft.table.set("env_file", vec![file]);
        }
    }
}
