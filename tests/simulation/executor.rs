//! Runs the proxy's tasks on one thread, in an order that the seed decides.

use fastrand::Rng;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

/// Polls that one call of [`Executor::run`] may take: a task that wakes itself for ever would starve a worker.
const MOST_POLLS: usize = 200_000;

#[derive(Default)]
pub struct Executor {
    tasks: Vec<Option<Task>>,
    ready: Arc<Mutex<Vec<usize>>>,
    live: usize,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
}

struct Woken {
    id: usize,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap().push(self.id);
        }
    }
}

impl Executor {
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        let id = self.tasks.len();
        let woken = Arc::new(Woken { id, queued: false.into(), ready: Arc::clone(&self.ready) });
        self.tasks.push(Some(Task { future: Box::pin(future), woken: Arc::clone(&woken) }));
        self.live += 1;
        woken.wake();
    }

    /// Polls ready tasks, at most `most` times; returns how often.
    pub fn run(&mut self, most: usize, rng: &mut Rng) -> usize {
        for polls in 0..most {
            let id = {
                let mut ready = self.ready.lock().unwrap();
                if ready.is_empty() {
                    return polls;
                }
                let at = rng.usize(..ready.len());
                ready.swap_remove(at)
            };
            assert!(polls < MOST_POLLS, "tasks wake each other for ever");
            let Some(task) = self.tasks[id].as_mut() else { continue };
            task.woken.queued.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(&task.woken));
            if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.tasks[id] = None;
                self.live -= 1;
            }
        }
        most
    }

    /// Tasks that have not ended.
    pub fn live(&self) -> usize {
        self.live
    }
}
