//! What stays open across a switch: a web socket that talks all the while, and long polls. They live on the old slot
//! until its drain ends, and then end cleanly; who comes back at once reaches the new release.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::{Message, WebSocket};

use crate::poster::{Answer, DOMAIN, Door, Posters, Stream};
use crate::site::Site;
use crate::steps::Steps;

/// How long the old slot may go on, by the profile.
const DRAIN: Duration = Duration::from_secs(8);
/// An update that nobody else posts, and one that nobody posts at all.
const POSTED: u64 = 1_000_001;
const NEVER: u64 = 1_000_002;

fn release(name: &str) -> String {
    let drain = DRAIN.as_secs();
    format!(
        "\n[services.backend.environment]\nGREETING = \"{name}\"\n\
         [switch]\ntrial = \"2s\"\nhealth = \"30s\"\ndrain = \"{drain}s\"\n"
    )
}

/// One life of the web socket.
#[derive(Debug)]
struct Life {
    release: String,
    began: Instant,
    /// When each echo came.
    echoes: Vec<Instant>,
    /// The code of its closing frame, and when that came.
    closed: Option<(u16, Instant)>,
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn told(socket: &mut WebSocket<Stream>) -> Result<Message, String> {
    socket.read().map_err(|error| format!("while waiting for a message: {error}"))
}

/// Opens a web socket, says a number every 200 ms, and comes back when it is closed.
fn chat(door: &Door, stop: &AtomicBool) -> Result<Vec<Life>, String> {
    let mut lives = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let stream = door.connect()?.into_stream();
        let (mut socket, _) = tungstenite::client(format!("wss://{DOMAIN}/ws"), stream)
            .map_err(|error| format!("no web socket: {error}"))?;
        let hello = json(told(&mut socket)?.to_text().unwrap());
        let release = hello["release"].as_str().unwrap().to_owned();
        let mut life = Life { release, began: Instant::now(), echoes: Vec::new(), closed: None };
        while life.closed.is_none() && !stop.load(Ordering::SeqCst) {
            number += 1;
            socket.send(format!("{number}").into()).map_err(|error| format!("while sending: {error}"))?;
            let answer = loop {
                match told(&mut socket)? {
                    // Whether it still lives; it is answered with the next message.
                    Message::Ping(_) => {}
                    answer => break answer,
                }
            };
            match answer {
                Message::Text(text) => {
                    let echo = json(&text);
                    assert_eq!(
                        (&echo["echo"], &echo["release"]),
                        (&number.to_string().into(), &life.release.clone().into())
                    );
                    life.echoes.push(Instant::now());
                    sleep(Duration::from_millis(200));
                }
                Message::Close(frame) => {
                    life.closed = Some((frame.map_or(0, |frame| frame.code.into()), Instant::now()));
                }
                other => return Err(format!("not expected: {other:?}")),
            }
        }
        if life.closed.is_some() {
            // Its own closing frame goes out, and the other side hangs up after it: a reset would be an error.
            match socket.read() {
                Err(tungstenite::Error::ConnectionClosed) => {}
                other => return Err(format!("the closing was not clean: {other:?}")),
            }
        }
        lives.push(life);
    }
    Ok(lives)
}

/// A long poll in a thread of its own: its answer, and when that came.
fn poll(door: &Door, update: u64, seconds: u64) -> JoinHandle<(Result<Answer, String>, Instant)> {
    let door = door.clone();
    spawn(move || {
        let answer = door.connect().and_then(|mut connection| {
            connection.patience(Duration::from_secs(60));
            connection.ask("GET", &format!("/poll?update={update}&wait={seconds}"), "")
        });
        (answer, Instant::now())
    })
}

#[test]
fn a_web_socket_and_a_long_poll_outlive_a_flip_until_the_drain_ends() {
    let site = Site::open();
    let first = site.publish(&release("first"));
    site.droplet.feed(&["bundle", "secrets", "set", "telegram_bot_token"], b"12345:token");
    let switched = site.switch(&first);
    assert_eq!(switched.code, 0, "{switched:?}");
    let second = site.publish(&release("second"));
    let door = site.door();

    let posters = Posters::start(&door, 4);
    let stop = Arc::new(AtomicBool::new(false));
    let chatting = spawn({
        let (door, stop) = (door.clone(), stop.clone());
        move || chat(&door, &stop)
    });
    let repository = format!("{}/team/bundles", site.registry.host_port());
    let mut command = site.droplet.command(&["bundle", "switch", &second, "--repository", &repository]);
    let mut switch = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut steps = Steps::of(switch.stderr.take().unwrap());

    // About a second before the flip.
    steps.await_step("wait for health");
    let polls = [poll(&door, POSTED, 50), poll(&door, NEVER, 9), poll(&door, NEVER, 50)];
    let routed = steps.await_step("route to green");
    steps.await_step("trial");
    let body = format!(r#"{{"update_id":{POSTED},"text":"the one that is waited for"}}"#);
    let posted_at = Instant::now();
    let posted = door.connect().unwrap().ask("POST", "/webhook", &body).unwrap();
    let drained = steps.await_step("drain  ");
    let stopped = steps.await_step("stop                    backend-blue");
    let status = switch.wait().unwrap();
    sleep(Duration::from_secs(1));
    stop.store(true, Ordering::SeqCst);
    let (seen, chat) = (posters.end(), chatting.join().unwrap());
    for (_, line) in &steps.seen {
        println!("{line}");
    }
    assert!(status.success(), "{:#?}", steps.seen);
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);

    let lives = chat.unwrap();
    let [old, new] = &lives[..] else { panic!("one closing, one coming back: {lives:#?}") };
    let (code, closed) = old.closed.unwrap();
    let after = |when: &&Instant| **when > routed;
    println!(
        "web socket: {} messages on the old slot, {} of them after the flip, longest silence {:?}; closed with {code} \
         {:?} after the drain began; back on the new slot within {:?}",
        old.echoes.len(),
        old.echoes.iter().filter(after).count(),
        old.echoes.windows(2).map(|two| two[1] - two[0]).max().unwrap(),
        closed - drained,
        new.began - closed,
    );
    assert!(closed > stopped, "it is closed when the old slot stops, not before");
    assert!(
        stopped - drained > DRAIN - Duration::from_millis(500),
        "the drain waits for it: {:?}",
        stopped - drained
    );
    assert!(old.echoes.iter().any(|when| *when > drained), "it went on after the flip");
    assert_eq!(code, 1012, "the closing frame says why");
    assert!(new.began - closed < Duration::from_secs(5), "who comes back at once is let in");
    assert_ne!(old.release, new.release);
    assert!(!new.echoes.is_empty() && new.closed.is_none());

    let [(news, news_at), (in_vain, in_vain_at), (cut, cut_at)] = polls.map(|poll| {
        let (answer, when) = poll.join().unwrap();
        (answer.unwrap(), when)
    });
    println!(
        "long polls: news {:?} after it was posted; in vain after 9 s, {:?} into the drain; cut {:?} after the stop began",
        news_at.saturating_duration_since(posted_at),
        in_vain_at.saturating_duration_since(drained),
        cut_at.saturating_duration_since(stopped),
    );
    for answer in [&news, &in_vain, &cut] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            json(&answer.body)["release"],
            old.release.as_str(),
            "it was asked before the flip: {answer:?}"
        );
    }
    assert_eq!(
        json(&news.body)["message"],
        json(&posted.body)["stored"],
        "the old slot hears what the new one stores"
    );
    assert!(news_at < drained, "the news came at once");
    assert_eq!(json(&in_vain.body)["message"], Value::Null);
    assert!(in_vain_at < stopped, "its own time ended first");
    assert_eq!(json(&cut.body)["message"], Value::Null);
    assert!(cut_at > stopped && cut_at - stopped < Duration::from_secs(10), "answered when its slot stops");
    println!(
        "posts meanwhile: {} answered, {} failed, slowest {:?}",
        seen.answered,
        seen.failed.len(),
        seen.slowest
    );
}
