//! How failures read, and which exit code they have. The only place that gives advice.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use crate::activate::prepare::Reason;
use crate::activate::recover::RecoverError;
use crate::activate::{Refusal, SwitchError};
use crate::store::{LockError, StoreError};

/// Exit codes, which are an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 0: done.
    Done,
    /// 1: the input is wrong.
    Input,
    /// 10: nothing to change.
    NothingToChange,
    /// 20: refused, nothing was started.
    Refused,
    /// 21: somebody else is changing this machine.
    Busy,
    /// 22: what is current is not what was expected.
    Moved,
    /// 30: failed after work began; the last good generation serves.
    WentBack,
    /// 31: going back failed; a person is needed.
    Stuck,
    /// 40: not ended; the machine goes on by itself when what it waits for has come.
    Waiting,
    /// 41: something on this machine is not well.
    Unwell,
    /// 50: the same content, compressed otherwise.
    OtherEncoding,
    /// 51: other content.
    OtherContent,
}

impl Code {
    /// The number.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Input => 1,
            Self::NothingToChange => 10,
            Self::Refused => 20,
            Self::Busy => 21,
            Self::Moved => 22,
            Self::WentBack => 30,
            Self::Stuck => 31,
            Self::Waiting => 40,
            Self::Unwell => 41,
            Self::OtherEncoding => 50,
            Self::OtherContent => 51,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        code.number().into()
    }
}

/// A failure as a person meets it: what failed, because of what, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
    because: Vec<String>,
    hints: Vec<String>,
    /// Already rendered with source lines and carets.
    verbatim: bool,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), because: Vec::new(), hints: Vec::new(), verbatim: false }
    }

    /// An error and its causes.
    pub(super) fn of(code: Code, error: &dyn Error) -> Self {
        let mut failure = Self::new(code, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            failure.because.push(cause.to_string());
            source = cause.source();
        }
        failure
    }

    /// Diagnostics that carry their own source lines.
    pub(super) fn diagnostics(rendered: String) -> Self {
        Self { verbatim: true, ..Self::new(Code::Input, rendered) }
    }

    /// The same failure, as what stood in the way of something.
    pub(super) fn within(mut self, what: String) -> Self {
        if !self.verbatim {
            self.because.insert(0, std::mem::replace(&mut self.message, what));
        }
        self
    }

    /// One more reason.
    pub(super) fn because(mut self, reason: impl Into<String>) -> Self {
        self.because.push(reason.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    pub(super) fn render(&self) -> String {
        if self.verbatim {
            return self.message.trim_end().to_owned();
        }
        let mut text = format!("error: {}", self.message);
        for because in &self.because {
            // Writing to a String cannot fail.
            let _ok = write!(text, "\n  because: {because}");
        }
        if !self.hints.is_empty() {
            text.push('\n');
        }
        for hint in &self.hints {
            let _ok = write!(text, "\nhint: {hint}");
        }
        text
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::of(Code::Refused, &error);
        match &error {
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                failure.hint("a machine's state belongs to root: try `sudo bundle …`, or `--root DIR` to try things out")
            }
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                failure.hint("make room: `df -h /var/lib/bundle`, `docker system df`")
            }
            StoreError::Damaged { .. } => failure.hint("`bundle recover` settles what can be settled by itself"),
            StoreError::Io { .. } => failure,
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Busy(_) => Self::new(Code::Busy, error.to_string())
                .hint("wait until it has ended; `bundle status` shows how far it is"),
            LockError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let mut failure = Self::new(Code::Refused, refusal.to_string());
        for reason in &refusal.reasons {
            let hint = match reason {
                Reason::MissingSecrets(names) => {
                    let commands: Vec<_> =
                        names.iter().map(|name| format!("`bundle secrets set {name}`")).collect();
                    format!("send the values on stdin: {}", commands.join(", "))
                }
                Reason::Conflict(path) => format!("move `{path}` away if the bundle's is wanted there"),
                Reason::Space { .. } => "make room: `df -h /var/lib/bundle`, `docker system df`".to_owned(),
                Reason::Damaged { .. } => {
                    "look after the disk; `bundle switch REF` writes what is not in `/var/lib/bundle/store` again"
                        .to_owned()
                }
                Reason::Check { .. } => {
                    "is the program's version the one of the release that the profile names?".to_owned()
                }
                Reason::Image { .. } => {
                    "can this machine reach the registry, and is it logged in (`docker login`)?".to_owned()
                }
            };
            if !failure.hints.contains(&hint) {
                failure.hints.push(hint);
            }
        }
        failure
    }
}

impl From<SwitchError> for Failure {
    fn from(error: SwitchError) -> Self {
        match error {
            SwitchError::WentBack { reason, serving } => {
                Self::new(Code::WentBack, format!("the switch failed: {reason}"))
                    .hint(format!("{serving} serves, as before; `bundle generations` keeps the reason"))
            }
            SwitchError::Stuck { reason, errors } => {
                let mut failure = Self::new(Code::Stuck, format!("the switch failed: {reason}"));
                failure.because =
                    errors.iter().map(|error| format!("and going back failed: {error}")).collect();
                failure.hint(
                    "mend what is named above, then `bundle recover`; `bundle status` says what is pending",
                )
            }
            SwitchError::Unfinished { .. } => Self::new(Code::Stuck, error.to_string()).hint(
                "mend the disk, then `bundle recover` settles it; `bundle status` says what is pending",
            ),
            SwitchError::Store(error) => error.into(),
        }
    }
}

impl From<RecoverError> for Failure {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Failed { ref errors } => {
                let mut failure = Self::new(Code::Stuck, error.to_string());
                failure.because.clone_from(errors);
                failure.hint("mend what is named above, then `bundle recover`")
            }
            RecoverError::GaveUp { .. } => Self::new(Code::Stuck, error.to_string()).hint(
                "mend what is wrong (`bundle status`, `journalctl -u docker`), then `bundle recover --force`",
            ),
            RecoverError::Store(error @ StoreError::Io { .. }) => {
                // Something is pending, and it was not settled.
                Self { code: Code::Stuck, ..error.into() }
            }
            RecoverError::Store(error) => error.into(),
        }
    }
}
