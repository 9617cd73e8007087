//! Runs tasks on the calling thread without a runtime: what is rehearsed needs no kernel.
//!
//! Every task is polled in turn until none makes progress. Tasks that are spawned meanwhile join them. For rehearsals of
//! single requests in control; workers have a runtime, and simulations an executor of their own.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    // Tasks that were spawned since the last look, on a thread that runs them so.
    static SPAWNED: RefCell<Option<Vec<Task>>> = const { RefCell::new(None) };
}

/// What is left to be run.
#[derive(Default)]
pub struct Local {
    tasks: Vec<Task>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// A task that wakes itself for ever is not waited for.
const MOST_ROUNDS: usize = 100_000;

/// Takes a task up; only where this thread runs tasks so.
pub(super) fn take_up(task: impl Future<Output = ()> + 'static) {
    SPAWNED.with_borrow_mut(|spawned| spawned.get_or_insert_default().push(Box::pin(task)));
}

/// Whether this thread runs tasks so.
pub(super) fn is_here() -> bool {
    SPAWNED.with_borrow(Option::is_some)
}

impl Local {
    /// Polls `main` and all that it spawns until `main` has ended (`true`), or nothing goes on any more. `outside` plays the rest of
    /// the world; it says whether it did anything.
    pub fn run(
        &mut self,
        main: Pin<&mut dyn Future<Output = ()>>,
        outside: impl FnMut() -> bool,
    ) -> bool {
        SPAWNED.set(Some(Vec::new()));
        let ended = self.turns(main, outside);
        SPAWNED.set(None);
        ended
    }

    fn turns(
        &mut self,
        mut main: Pin<&mut dyn Future<Output = ()>>,
        mut outside: impl FnMut() -> bool,
    ) -> bool {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        for _ in 0..MOST_ROUNDS {
            woken.0.store(false, Ordering::Relaxed);
            if main.as_mut().poll(&mut context).is_ready() {
                return true;
            }
            self.tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            let spawned = SPAWNED.with_borrow_mut(Option::take).unwrap_or_default();
            SPAWNED.set(Some(Vec::new()));
            let more = !spawned.is_empty();
            self.tasks.extend(spawned);
            let did = outside();
            if !more && !did && !woken.0.load(Ordering::Relaxed) {
                return false;
            }
        }
        false
    }
}
