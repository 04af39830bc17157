//! Before any droplet is touched: can each be reached, changed, and does it have what the bundle needs?

use serde::Deserialize;

use super::ssh::{Connection, Destination, LOST, Said, Ssh};
use crate::model::{Digest, PROGRAM, SecretName};
use crate::store::{Record, View};

/// Asks everything in one connection of the `$program`. Read by `sh` from its input, so that no login shell has to be
/// quoted for.
const SCRIPT: &str = "\
if ! test -x \"$program\"; then echo 'bundle: missing'; exit 0; fi
if test \"$(id -u)\" = 0; then as=
elif sudo -n \"$program\" --version >/dev/null 2>&1 </dev/null; then as='sudo -n'
else echo 'bundle: powerless'; exit 0; fi
echo \"bundle: ${as:-root}\"
$as \"$program\" --json status </dev/null || exit
$as \"$program\" --json secrets list </dev/null || exit
";

/// What a droplet is before it is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether its commands need `sudo -n`.
    pub(super) sudo: bool,
    /// What is current; the bare machine if it was never switched.
    pub(super) view: View,
    /// The current bundle.
    pub(super) bundle: Option<Digest>,
    /// Whether a switch is under way or was interrupted.
    pub(super) pending: bool,
    /// Who is changing it right now, in words: also before there is anything to go back from.
    pub(super) busy: Option<String>,
    /// Whether it is on its way to its first generation by itself.
    pub(super) first_boot: bool,
    /// The secrets of which it has a value.
    pub(super) secrets: Vec<SecretName>,
}

impl Seen {
    /// Whether what is current may change without anybody's doing.
    pub(super) fn moves(&self) -> bool {
        self.pending || self.busy.is_some() || self.first_boot
    }
}

#[derive(Deserialize)]
struct Status {
    current: Option<View>,
    record: Option<Record>,
    pending: Option<Pending>,
    busy: Option<Busy>,
    on_the_way: Option<OnTheWay>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Busy {
    command: String,
    user: String,
    phase: String,
}

impl Default for Busy {
    fn default() -> Self {
        Self { command: "another command".into(), user: "nobody knows whom".into(), phase: "unknown".into() }
    }
}

#[derive(Deserialize)]
struct OnTheWay {
    first_boot: Option<FirstBoot>,
    /// What it is to become, if it waits for secrets.
    bundle: Option<String>,
    missing_secrets: Vec<SecretName>,
}

#[derive(Deserialize)]
struct FirstBoot {
    state: String,
}

impl OnTheWay {
    fn goes_on(&self) -> bool {
        match self.first_boot.as_ref().map(|boot| boot.state.as_str()) {
            None | Some("done" | "failed") => false,
            // The last one has come, and it has not been noticed yet.
            Some("waiting-for-secrets") => self.bundle.is_some() && self.missing_secrets.is_empty(),
            Some(_) => true,
        }
    }
}

#[derive(Deserialize)]
struct Pending {
    committed: bool,
}

#[derive(Deserialize)]
struct Secrets {
    secrets: Vec<SecretName>,
}

/// Looks at one droplet; `Err` says in words why it cannot be deployed to.
pub(super) fn look(ssh: &Ssh, to: &Destination, connection: Connection) -> Result<Seen, String> {
    let said = ssh.run(to, connection, &["sh", "-s"], script().as_bytes())?;
    read(&said)
}

fn script() -> String {
    format!("program={PROGRAM}\n{SCRIPT}")
}

/// What to do about the ways not to get in that meet people most often.
pub(super) fn advice(fault: &str) -> Option<&'static str> {
    let known = [
        (
            "a password is required",
            "`sudo` there must ask for no password for any command of `bundle`: `NOPASSWD:` in sudoers(5)",
        ),
        (
            "Permission denied (publickey",
            "does the droplet know your key, and `ssh` which to use? `ssh-add -l`, or `--ssh-option=-i --ssh-option=KEY`",
        ),
        (
            "Host key verification failed",
            "compare the key with the one on the droplet's console and connect once with `ssh`; if the droplet was made anew, `ssh-keygen -R HOST` forgets the old key",
        ),
    ];
    known.into_iter().find(|(words, _)| fault.contains(words)).map(|(_, hint)| hint)
}

fn read(said: &Said) -> Result<Seen, String> {
    // A login shell may say other things first.
    let mut lines = said.out.lines().skip_while(|line| !line.starts_with("bundle: "));
    let word = match lines.next().and_then(|line| line.strip_prefix("bundle: ")) {
        None if said.code == LOST => return Err(format!("not reached: {}", said.complaint())),
        None => return Err(format!("no shell answers there: {}", said.complaint())),
        Some("missing") => {
            return Err(format!(
                "there is no `{PROGRAM}`; a droplet is made with the user-data that `bundle cloud-init` prints"
            ));
        }
        Some("powerless") => {
            return Err(format!(
                "the user is not root and may not `sudo -n {PROGRAM}`; name `root@…`, or allow it in sudoers(5) with `NOPASSWD:`"
            ));
        }
        Some(word) => word,
    };
    let json: Vec<&str> = lines.filter(|line| line.starts_with('{')).collect();
    let [status, secrets] = json[..] else {
        return Err(format!("`bundle` there does not answer as it should: {}", said.complaint()));
    };
    let strange = |error| format!("the answer of `bundle` there is strange (another version?): {error}");
    let status: Status = serde_json::from_str(status).map_err(strange)?;
    let Secrets { secrets } = serde_json::from_str(secrets).map_err(strange)?;
    Ok(Seen {
        sudo: word != "root",
        view: status.current.unwrap_or(View::BARE),
        bundle: status.record.and_then(|record| record.bundle),
        // What has committed is only being cleared up after; the next switch ends that first.
        pending: status.pending.is_some_and(|pending| !pending.committed),
        busy: status.busy.map(|Busy { command, user, phase }| format!("`{command}` by {user}: {phase}")),
        first_boot: status.on_the_way.is_some_and(|on_the_way| on_the_way.goes_on()),
        secrets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32, out: &str) -> Said {
        Said { code, out: out.to_owned(), err: "ssh: connect to host web1: Connection refused\n".to_owned() }
    }

    #[test]
    fn a_droplet_is_read_whatever_its_login_shell_says_first() {
        let bundle = Digest::of(b"x");
        let record = format!(
            r#"{{"schema":1,"generation":3,"bundle":"{bundle}","profile":"p","source":"s","by":"b","created":1,"outcome":"good","previous":2}}"#
        );
        let out = format!(
            "Welcome!\n{{}}\nbundle: sudo -n\n{{\"current\":{{\"generation\":3,\"slot\":\"green\"}},\"record\":{record},\"pending\":null,\"schema_version\":1}}\n{{\"secrets\":[\"token\"]}}\n"
        );
        let seen = read(&said(0, &out)).unwrap();
        assert_eq!((seen.sudo, seen.bundle, seen.pending), (true, Some(bundle), false));
        assert_eq!(seen.view.to_string(), "generation 3 in green");
        assert_eq!(seen.secrets, ["token".parse().unwrap()]);
        let bare = read(&said(0, "bundle: root\n{\"current\":null}\n{\"secrets\":[]}\n")).unwrap();
        assert_eq!((bare.view, bare.sudo, bare.bundle), (View::BARE, false, None));
        let out = r#"{"current":null,"pending":{"committed":false,"to":1}}"#;
        assert!(read(&said(0, &format!("bundle: root\n{out}\n{{\"secrets\":[]}}\n"))).unwrap().pending);
    }

    #[test]
    fn whatever_changes_it_by_itself_is_seen() {
        let seen = |status: &str| {
            read(&said(0, &format!("bundle: root\n{{\"current\":null,{status}}}\n{{\"secrets\":[]}}\n")))
                .unwrap()
        };
        let busy =
            seen(r#""busy":{"pid":7,"user":"root","command":"bundle switch","phase":"stage","since":1}"#);
        assert_eq!(busy.busy.as_deref(), Some("`bundle switch` by root: stage"));
        assert!(busy.moves() && !busy.pending);
        assert!(seen(r#""busy":{}"#).busy.is_some(), "somebody, and nobody knows who");
        assert!(!seen(r#""busy":null"#).moves());
        let boot = |state: &str, bundle: &str, missing: &str| {
            let boot = format!(r#"{{"state":"{state}","since":1,"message":"m"}}"#);
            seen(&format!(
                r#""on_the_way":{{"first_boot":{boot},"bundle":{bundle},"missing_secrets":[{missing}]}}"#
            ))
            .moves()
        };
        assert!(boot("fetching", "null", "") && boot("switching", "null", ""));
        assert!(!boot("done", "null", "") && !boot("failed", "null", ""));
        assert!(!boot("waiting-for-secrets", r#""sha256:00""#, r#""token""#), "nobody sends it");
        assert!(boot("waiting-for-secrets", r#""sha256:00""#, ""), "it goes on in a moment");
        assert!(!seen(r#""on_the_way":{"first_boot":null,"bundle":null,"missing_secrets":[]}"#).moves());
    }

    #[test]
    fn the_usual_ways_not_to_get_in_have_a_hint_each() {
        for (fault, words) in [
            ("web1: not reached: root@web1: Permission denied (publickey).", "ssh-add"),
            ("web1: not reached: Host key verification failed.", "ssh-keygen -R"),
            ("web1: `bundle` there does not answer as it should: sudo: a password is required", "NOPASSWD"),
        ] {
            assert!(advice(fault).is_some_and(|hint| hint.contains(words)), "{fault}");
        }
        assert_eq!(advice("web1: not reached: Connection refused"), None);
    }

    #[test]
    fn what_cannot_be_deployed_to_says_why() {
        for (code, out, words) in [
            (255, "", "not reached: ssh: connect to host web1: Connection refused"),
            (1, "This account is not available.\n", "no shell answers"),
            (0, "bundle: missing\n", "`bundle cloud-init`"),
            (0, "bundle: powerless\n", "sudoers"),
            (2, "bundle: root\n{\"current\":null}\n", "does not answer"),
            (0, "bundle: root\n{\"current\":7}\n{\"secrets\":[]}\n", "another version"),
        ] {
            let why = read(&said(code, out)).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn the_script_knows_where_the_program_lies() {
        assert!(script().starts_with("program=/"));
        let output = std::process::Command::new("sh").args(["-n", "-c", &script()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
