//! Engines that end while there is work, and readers in other threads.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use teff_runtime::Finish;
use teff_runtime::engine::{EngineError, Event, PAGE, Request, Stream};

use crate::common::{PATIENCE, engine, one, options, prompt, read, settled, tokens};

#[test]
fn streams_outlive_their_engine() {
    let engine = engine(options().with_sequences(2), 6);
    let mut streams: Vec<_> = (0..9)
        .map(|i| engine.submit(Request::new(prompt(i, 20), tokens(150)).with_choices(2)).unwrap())
        .collect();
    // The first runs already.
    assert!(matches!(streams[0].next(), Some(Event::Prompt { .. })));
    let cancelled = streams.pop().unwrap();
    drop(streams.pop());
    drop(engine);
    cancelled.cancel();
    for stream in streams.into_iter().chain([cancelled]) {
        stream.cancel();
        for text in read(stream, 2) {
            match text.end {
                Err(e) => assert_eq!(e, EngineError::Ended.to_string()),
                Ok(end) => assert_eq!((text.tokens.len(), end), (150, Finish::Length)),
            }
        }
    }
}

#[test]
fn an_engine_ends_while_a_prefix_is_computed() {
    for _ in 0..5 {
        let engine = Arc::new(engine(options(), 3));
        let path = folder("ends").join("prefix");
        std::thread::scope(|scope| {
            let saving = Arc::clone(&engine);
            let at = path.clone();
            scope.spawn(move || {
                let saved = saving.save_prefix(&prompt(1, 150), &at);
                assert!(matches!(saved, Ok(150) | Err(EngineError::Ended)), "{saved:?}");
            });
            let stream = engine.submit(Request::new(prompt(1, 150), tokens(40))).unwrap();
            drop(engine);
            read(stream, 1);
        });
        assert!(path.exists());
    }
}

#[test]
fn streams_are_cancelled_and_dropped_by_other_threads() {
    let engine = engine(options(), 12);
    let ended = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for t in 0..4u32 {
            let (engine, ended) = (&engine, &ended);
            scope.spawn(move || {
                for i in 0..25u32 {
                    let len = 1 + (i * 7 + t) as usize % 80;
                    let request = Request::new(prompt(i % 3, len), tokens(40)).with_choices(2);
                    let stream = engine.submit(request).unwrap();
                    match i % 4 {
                        0 => drop(stream),
                        1 => std::thread::scope(|inner| {
                            inner.spawn(|| stream.cancel());
                        }),
                        2 => {
                            stream.cancel();
                            for text in read(stream, 2) {
                                assert!(matches!(text.end, Ok(Finish::Cancelled | Finish::Length)));
                            }
                        }
                        _ => drop(read(stream, 2)),
                    }
                    ended.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
    });
    let stats = settled(&engine);
    assert_eq!(stats.sequences, 4 * 25 * 2);
    assert!(stats.cancelled > 0 && stats.cancelled <= stats.sequences);
}

/// Reader that takes events where it is woken: on the engine's thread.
struct Inline {
    stream: Mutex<Stream>,
    events: AtomicUsize,
    ended: mpsc::Sender<()>,
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        let mut stream = self.stream.lock().expect("no panic");
        loop {
            match stream.poll_next(&mut context) {
                Poll::Ready(Some(_)) => drop(self.events.fetch_add(1, Ordering::Relaxed)),
                Poll::Ready(None) => return self.ended.send(()).expect("the test waits"),
                Poll::Pending => return,
            }
        }
    }
}

#[test]
fn readers_may_read_where_they_are_woken() {
    let engine = engine(options(), 6);
    let stream = engine.submit(Request::new(prompt(1, 20), tokens(30)).with_choices(3)).unwrap();
    let (ended, end) = mpsc::channel();
    let reader = Arc::new(Inline { stream: Mutex::new(stream), events: 0.into(), ended });
    Arc::clone(&reader).wake();
    end.recv_timeout(PATIENCE).expect("all events");
    assert!(reader.events.load(Ordering::Relaxed) >= 3 + 3 + 3);
    settled(&engine);
}

/// A folder of this test alone.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("teff-engine-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

#[test]
fn prefixes_saved_and_loaded_by_many_at_once() {
    let (engine, folder) = (engine(options(), 9), folder("races"));
    let path = folder.join("prefix");
    engine.save_prefix(&prompt(0, 100), &path).unwrap();
    std::thread::scope(|scope| {
        for t in 0..6usize {
            let (engine, path) = (&engine, &path);
            scope.spawn(move || {
                for i in 0..20usize {
                    let len = 60 + 10 * ((t + i) % 5);
                    if t % 2 == 0 {
                        // One file: the last one saved is there whole.
                        assert_eq!(engine.save_prefix(&prompt(t as u32, len), path).unwrap(), len);
                    } else {
                        let got = engine.load_prefix(path).unwrap();
                        assert!((0..6).any(|t| got == prompt(t, got.len())));
                    }
                    one(engine, Request::new(prompt(t as u32, 2 * PAGE), tokens(3)));
                }
            });
        }
    });
    settled(&engine);
    let left: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(left, ["prefix"]);
    // What can't be written leaves nothing behind, nor what can't be read.
    assert!(matches!(engine.save_prefix(&prompt(0, 5), &folder), Err(EngineError::Io(_))));
    let nowhere = folder.join("none").join("prefix");
    assert!(matches!(engine.save_prefix(&prompt(0, 5), &nowhere), Err(EngineError::Io(_))));
    assert!(matches!(engine.load_prefix(&nowhere), Err(EngineError::Io(_))));
    assert!(matches!(engine.load_prefix(&folder), Err(EngineError::Io(_))));
    std::fs::write(&path, []).unwrap();
    assert!(engine.load_prefix(&path).is_err());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    settled(&engine);
    std::fs::remove_dir_all(folder).unwrap();
}
