//! `bundle generations`

use serde_json::json;

use super::report::{Code, Failure};
use super::{Context, print};
use crate::store::{Outcome, Record, Store, View};

pub(super) fn run(context: &Context<'_>) -> Result<Code, Failure> {
    let store = context.store();
    let records = store.records()?;
    let (current, last_good) = (store.current()?, store.last_good()?);
    let json = json!({ "generations": records, "current": current, "last_good": last_good });
    print(context, json, || table(&records, current, last_good, &store));
    Ok(Code::Done)
}

fn table(records: &[Record], current: Option<View>, last_good: Option<View>, store: &Store) -> String {
    if records.is_empty() {
        return format!("no generation yet in `{}`", store.home().display());
    }
    let mut lines =
        vec![format!("{:>3}  {:<22} {:<20} {:<14} {:<12} NOTE", "GEN", "STATE", "MADE", "BUNDLE", "BY")];
    for record in records {
        let is = |view: Option<View>| view.is_some_and(|view| view.generation == record.generation);
        let mut state = Vec::new();
        if let (true, Some(view)) = (is(current), current) {
            state.push(format!("current ({})", view.slot));
        }
        if is(last_good) && !is(current) {
            state.push("last good".to_owned());
        }
        let note = match &record.outcome {
            Outcome::Good => record.source.clone(),
            Outcome::Pending => "its activation has not ended".to_owned(),
            Outcome::Failed(reason) => {
                state.push("failed".to_owned());
                reason.clone()
            }
        };
        let bundle = record.bundle.map_or_else(|| "-".to_owned(), |digest| digest.short());
        let line = format!(
            "{:>3}  {:<22} {:<20} {bundle:<14} {:<12} {note}",
            record.generation.to_string(),
            state.join(", "),
            time(record.created),
            record.by
        );
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// A moment in UTC, as people read it.
pub(super) fn time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| seconds.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
