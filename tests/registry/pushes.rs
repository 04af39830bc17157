//! What `bundle push` asks of a registry, and in which order: tags after all that they promise, wherever it breaks off.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::hostile_server::{Answer, Hostile, Request};
use crate::project::Project;

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

fn project(registry: &Hostile) -> Project {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    fs::write(dir.path().join("tree/run"), "x").unwrap();
    let recipe = "layers = [{ from = \"tree\", to = \"/srv\" }]\ncmd = [\"/srv/run\"]";
    Project::with(dir, &registry.host(), recipe)
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
    let project = project(&registry);
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
    // Thirteen, with the question which scheme is spoken; a few more where the machine is slow.
    
    assert!(rounds <= 16, "{rounds} rounds");
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
    let project = project(&registry);
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
