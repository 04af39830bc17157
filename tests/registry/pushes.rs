//! What `bundle push` asks of a registry, and in which order: tags after all that they promise, wherever it breaks off.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bundle::model::Digest;
use bundle::registry::{Options, Registry as Client, Repository};
use serde_json::Value;
use tempfile::TempDir;

use crate::hostile_server::{Answer, Hostile, Request};
use crate::project::Project;
use crate::registry::Registry;

/// How long the registry thinks, so that requests which do not wait for each other overlap.
const THINKS: Duration = Duration::from_millis(60);

/// What the registry has of the specification's choices.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Takes {
    /// A blob in one POST.
    one_post: bool,
    /// It keeps the lists of referrers.
    lists: bool,
}

/// How many requests waited for another, one after the other, and how many came in at once.
#[derive(Default)]
struct Rounds {
    answered: usize,
    now: usize,
    most: usize,
}

/// A registry that has nothing and takes everything; `fails` says which request it does not.
fn taking(
    takes: Takes,
    rounds: &Arc<Mutex<Rounds>>,
    fails: impl Fn(&Request) -> bool + Send + Sync + 'static,
) -> Hostile {
    let (rounds, lists) = (Arc::clone(rounds), Mutex::new(BTreeMap::new()));
    Hostile::start(move |request| {
        let depth = {
            let mut rounds = rounds.lock().unwrap();
            rounds.now += 1;
            rounds.most = rounds.most.max(rounds.now);
            rounds.answered + 1
        };
        thread::sleep(THINKS);
        {
            let mut rounds = rounds.lock().unwrap();
            rounds.now -= 1;
            rounds.answered = rounds.answered.max(depth);
        }
        let created = || Answer::new("201 Created", "");
        let text = request.target.as_str();
        match request.method.as_str() {
            _ if fails(request) => Answer::new("403 Forbidden", ""),
            "POST" if takes.one_post && text.contains("?digest=") => created(),
            "POST" => {
                Answer::new("202 Accepted", "").header("Location", "/v2/team/app/blobs/uploads/1?state=x")
            }
            "PUT" if text.contains("/manifests/sha256-") => {
                lists.lock().unwrap().insert(text.to_owned(), request.body.clone());
                created()
            }
            "PUT" if takes.lists => created().header("OCI-Subject", "sha256:it"),
            "PUT" => created(),
            "GET" if text == "/v2/" => Answer::new("200 OK", ""),
            _ => match lists.lock().unwrap().get(text) {
                Some(list) => Answer::new("200 OK", list.clone()),
                None => Answer::new("404 Not Found", ""),
            },
        }
    })
}

fn project(host: &str) -> Project {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("tree/run"), "x").unwrap();
    let recipe = "layers = [{ from = \"tree\", to = \"/srv\" }]\ncmd = [\"/srv/run\"]";
    Project::with(dir, host, recipe)
}

/// The names of the manifests that were written, in order.
fn written(registry: &Hostile) -> Vec<String> {
    let requests = registry.requests();
    let puts = requests.iter().filter(|request| request.method == "PUT");
    puts.filter_map(|put| Some(put.target.split_once("/manifests/")?.1.to_owned())).collect()
}

fn is_tag(name: &str) -> bool {
    !name.starts_with("sha256")
}

/// Pushes for the first time; the requests, and the most that came one after the other.
fn push(takes: Takes) -> (Hostile, usize) {
    let rounds = Arc::new(Mutex::new(Rounds::default()));
    let registry = taking(takes, &rounds, |_| false);
    let project = project(&registry.host());
    let output = project.run(&["push", "p.toml"]);
    assert!(output.status.success(), "{output:?}");
    let names = written(&registry);
    let (before, tags): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| !is_tag(name));
    assert_eq!(before, names.iter().take(before.len()).collect::<Vec<_>>(), "tags are last");
    let tags: Vec<&str> = tags.iter().map(|name| &name[..1]).collect();
    assert!(matches!(tags[..], ["i", "b", "p"] | ["b", "i", "p"]), "{names:?}");
    let Rounds { answered, most, .. } = *rounds.lock().unwrap();
    assert!((2..=4).contains(&most), "{most} at once");
    (registry, answered)
}

fn counts(registry: &Hostile) -> [usize; 4] {
    let requests = registry.requests();
    let requests = requests.iter().filter(|request| request.target != "/v2/");
    let methods: Vec<&str> = requests.map(|request| request.method.as_str()).collect();
    ["HEAD", "POST", "PUT", "GET"].map(|method| methods.iter().filter(|found| **found == method).count())
}

#[test]
fn a_first_push_takes_few_round_trips_and_writes_its_tags_last() {
    // Two tags and two blobs each of image and bundle are looked for. Those blobs, what is empty, and two attachments
    // each are sent; then the manifests of these six, and three tags.
    let (registry, rounds) = push(Takes { one_post: true, lists: true });
    assert_eq!(counts(&registry), [6, 9, 9, 0], "{:#?}", registry.requests());
    // Fourteen where nobody has to wait; one after the other they would be twenty-five.
    assert!(rounds <= 18, "{rounds} rounds");
    // Two lists, which are read before and after.
    let (registry, rounds) = push(Takes { one_post: false, lists: false });
    assert_eq!(counts(&registry), [6, 9, 20, 4], "{:#?}", registry.requests());
    assert!(rounds <= 24, "{rounds} rounds");
}

#[test]
fn a_push_that_breaks_off_has_written_no_tag_before_what_it_promises() {
    let (count, fails) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let (counted, failing) = (Arc::clone(&count), Arc::clone(&fails));
    let takes = Takes { one_post: true, lists: true };
    let registry = taking(takes, &Arc::default(), move |request| {
        let writes = matches!(request.method.as_str(), "POST" | "PUT");
        writes && counted.fetch_add(1, Ordering::SeqCst) >= failing.load(Ordering::SeqCst)
    });
    let project = project(&registry.host());
    // After nine blobs and six manifests: one tag alone may be there, and the profile's only after the others.
    for (good, tags) in [(0, 0), (5, 0), (9, 0), (11, 0), (14, 0), (15, 2), (17, 3)] {
        let before = written(&registry).len();
        count.store(0, Ordering::SeqCst);
        fails.store(good, Ordering::SeqCst);
        let output = project.run(&["push", "p.toml"]);
        assert!(!output.status.success(), "{good}: {output:?}");
        let asked = written(&registry).split_off(before).iter().filter(|name| is_tag(name)).count();
        assert!(asked <= tags, "{good} writes were taken: {asked} tags");
    }
}

/// A registry's own directory for the manifests of the repository.
fn manifests(registry: &Registry) -> PathBuf {
    let storage = registry.blob(Digest::of(b""));
    storage.ancestors().nth(5).unwrap().join("repositories/team/app/_manifests")
}

fn says(project: &Project, arguments: &[&str], words: &str) {
    let output = project.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(words), "{arguments:?}: {said}");
}

#[test]
fn what_a_registry_has_lost_is_sent_again_as_soon_as_anything_is() {
    let registry = Registry::plain();
    let project = project(registry.host());
    says(&project, &["push", "p.toml"], "image web: 2 blobs sent");
    let output = project.run(&["image", "p.toml", "web"]);
    let image: Digest = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let revision = manifests(&registry).join("revisions/sha256").join(image.hex());
    let change = |from: &str, to: &str| {
        let path = project.path().join("p.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
    };

    // The image's manifest, which its tag outlives: the cache knows it, and the registry is asked.
    fs::remove_dir_all(&revision).unwrap();
    says(&project, &["push", "p.toml"], "0 blobs sent");
    assert!(!revision.exists(), "a push with nothing to do is two questions");
    change("64m", "65m");
    says(&project, &["push", "p.toml"], "image web: 0 blobs sent");
    assert!(revision.exists());

    // A layer: of what a manifest leads to, everything is asked for only where somebody wants that.
    let manifest: Value = serde_json::from_slice(&fs::read(registry.blob(image)).unwrap()).unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    fs::remove_file(registry.blob(layer)).unwrap();
    change("65m", "66m");
    says(&project, &["push", "p.toml"], "image web: 0 blobs sent");
    says(&project, &["push", "p.toml", "--again"], "image web: 1 blobs sent");
    assert!(registry.blob(layer).exists());
}

/// A directory with an `ssh` that reaches a droplet on which nothing can be done but look.
fn only_looking() -> TempDir {
    let dir = TempDir::new().unwrap();
    let program = dir.path().join("ssh");
    let script = "#!/bin/sh\ncase \"$*\" in *'sh -s'*) ;; *) exit 20 ;; esac\ncat >/dev/null\n\
        printf 'bundle: root\\n{\"current\":null}\\n{\"secrets\":[]}\\n'\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

#[test]
fn a_deploy_attaches_what_a_push_attaches() {
    let ssh = only_looking();
    let path = format!("{}:{}", ssh.path().display(), std::env::var("PATH").unwrap());
    for (more, attached) in [(&[][..], 2), (&["--no-provenance"], 0)] {
        let registry = Registry::plain();
        let project = project(registry.host());
        let mut deploy = project.command();
        deploy.env("PATH", &path).args(["deploy", "p.toml", "--host", "droplet"]).args(more);
        let output = deploy.output().unwrap();
        assert_eq!(output.status.code(), Some(20), "{output:?}");
        let repository: Repository = format!("{}/team/app", registry.host()).parse().unwrap();
        let client = Client::new(Options::default()).unwrap();
        let tag = format!("{repository}:p").parse().unwrap();
        let bundle = client.resolve_tag(&tag).unwrap();
        assert_eq!(client.referrers(&repository, bundle).unwrap().len(), attached);
    }
}
