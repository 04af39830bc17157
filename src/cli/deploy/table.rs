//! What came of a deploy, host by host: for people a table, for programs JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::ssh::Destination;
use crate::model::Digest;
use crate::store::View;

/// What a droplet runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) view: View,
    pub(super) bundle: Option<Digest>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bundle = self.bundle.map_or_else(|| "-".to_owned(), |digest| digest.short());
        write!(f, "{} {bundle}", self.view.generation)
    }
}

/// How it went with one droplet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The new generation is committed.
    Switched,
    /// It was current already.
    Current,
    /// Refused there before the switch began, or busy. Secrets may have been handed in.
    Refused(i32),
    /// It failed and went back by itself.
    WentBack,
    /// It was switched, and taken back because another failed.
    TakenBack,
    /// It was switched, and could not be taken back.
    NotTakenBack,
    /// It was switched, and left so though another failed: before, it had nothing that could serve.
    Kept,
    /// Going back failed there, or nobody knows.
    Stuck,
    /// The connection was lost or the deploy was stopped; it goes back by itself because nobody confirms.
    Left,
    /// Its turn never came.
    NotTried,
}

impl Outcome {
    /// For programs.
    fn word(&self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Current => "current",
            Self::Refused(_) => "refused",
            Self::WentBack => "went_back",
            Self::TakenBack => "taken_back",
            Self::NotTakenBack => "not_taken_back",
            Self::Kept => "kept",
            Self::Stuck => "stuck",
            Self::Left => "left",
            Self::NotTried => "not_tried",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switched => "switched",
            Self::Current => "was current already",
            Self::Refused(21) => "busy, not switched",
            Self::Refused(22) => "somebody else was faster, not switched",
            Self::Refused(_) => "refused, not switched",
            Self::WentBack => "failed, went back by itself",
            Self::TakenBack => "switched, then taken back",
            Self::NotTakenBack => "SWITCHED, AND NOT TAKEN BACK",
            Self::Kept => "switched, and left so: there was nothing before to go back to",
            Self::Stuck => "FAILED: A PERSON IS NEEDED",
            Self::Left => "left alone: goes back by itself, look at `bundle status` there",
            Self::NotTried => "not tried",
        })
    }
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) host: Destination,
    pub(super) before: State,
    /// What it runs now, as far as is known.
    pub(super) after: Option<State>,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        let state = |state: &State| json!({ "view": state.view, "bundle": state.bundle });
        json!({
            "host": self.host.to_string(),
            "before": state(&self.before),
            "after": self.after.as_ref().map(state),
            "outcome": self.outcome.word(),
            "seconds": self.took.as_secs(),
        })
    }
}

/// The table.
pub(super) fn render(rows: &[Row]) -> String {
    let head = ["HOST", "BEFORE", "AFTER", "TIME", "OUTCOME"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let after = row.after.map_or_else(|| "?".to_owned(), |state| state.to_string());
        let took = if row.outcome == Outcome::NotTried {
            "-".to_owned()
        } else {
            format!("{} s", row.took.as_secs())
        };
        [row.host.to_string(), row.before.to_string(), after, took, row.outcome.to_string()]
    });
    let lines: Vec<_> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |cells: &[String; 5]| {
        let padded = widths.iter().zip(cells).map(|(&width, cell)| format!("{cell:<width$}  "));
        padded.chain([cells[4].clone()]).collect::<String>()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GenerationNumber, Slot};

    #[test]
    fn the_table_says_of_each_what_it_was_and_is() {
        let state = |number, bundle: Option<&[u8]>| State {
            view: View { generation: GenerationNumber(number), slot: Slot::Blue },
            bundle: bundle.map(Digest::of),
        };
        let row = |host: &str, before, after, outcome, seconds| Row {
            host: host.parse().unwrap(),
            before,
            after,
            outcome,
            took: Duration::from_secs(seconds),
        };
        let (old, new) = (state(0, None), state(12, Some(b"x")));
        let rows = [
            row("root@web1.example.com", old, Some(new), Outcome::Switched, 42),
            row("web2", old, None, Outcome::Stuck, 7),
            row("web3", old, Some(old), Outcome::NotTried, 0),
        ];
        let short = Digest::of(b"x").short();
        let expected = format!(
            "HOST                   BEFORE  AFTER            TIME  OUTCOME\n\
             root@web1.example.com  0 -     12 {short}  42 s  switched\n\
             web2                   0 -     ?                7 s   FAILED: A PERSON IS NEEDED\n\
             web3                   0 -     0 -              -     not tried"
        );
        assert_eq!(render(&rows), expected);
        assert_eq!(rows[1].json()["outcome"], "stuck");
        assert_eq!(rows[0].json()["after"]["view"]["generation"], 12);
    }
}
