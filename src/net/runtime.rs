//! Starts monoio on the calling thread, with the ring flags that make it cheap, or with epoll where there is no ring.
//!
//! SINGLE_ISSUER and DEFER_TASKRUN take a third off the CPU per request, and want the ring built on its own thread.
//! Under DEFER_TASKRUN a task that wakes itself for ever would starve all I/O: nothing here may yield in a loop.

use crate::net::local;
use crate::net::sys::Handle;
use crate::net::timer::SWEEP;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 16384;
const TRIES: usize = 20;

/// How the calling thread waits for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring
    IoUring,
    /// epoll
    Epoll,
    /// io_uring; epoll on a thread that gets no ring
    Either,
}

impl Driver {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Driver::IoUring | Driver::Either => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// Runs `main` to its end on the calling thread.
///
/// # Errors
/// When the driver cannot be built; `main` has not begun then.
pub fn run<F: Future<Output = ()>>(driver: Driver, main: impl FnOnce() -> F) -> io::Result<()> {
    RUNS.set(true);
    if driver != Driver::Epoll {
        let build = || {
            RuntimeBuilder::<IoUringDriver>::new()
                .uring_builder(ring())
                .with_entries(SUBMISSIONS)
                .build()
        };
        match patiently(build) {
            Ok(mut runtime) => {
                runtime.block_on(main());
                return Ok(());
            }
            Err(error) if driver == Driver::IoUring => return Err(error),
            Err(error) => {
                tracing::warn!("a worker gets no ring ({error}): it serves with epoll instead");
            }
        }
    }
    RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(main());
    Ok(())
}

/// Whether a ring of the real size and flags can be had on this thread; the error says why not.
///
/// # Errors
/// Those of `io_uring_setup(2)`: EPERM where seccomp or a sysctl forbids it, ENOMEM under a small memlock limit.
pub fn probe_ring() -> io::Result<()> {
    patiently(|| ring().build(SUBMISSIONS)).map(|_: io_uring::IoUring| ())
}

fn ring() -> io_uring::Builder {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(COMPLETIONS)
        .setup_clamp();
    ring
}

// What a ring counted as locked memory is given back some time after its end: one that was probed, or a predecessor's.
#[expect(clippy::disallowed_methods, reason = "nothing is served on this thread yet")]
fn patiently<T>(build: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..TRIES {
        match build() {
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                std::thread::sleep(Duration::from_millis(10));
            }
            built => return built,
        }
    }
    build()
}

thread_local! {
    // Whether this thread has a runtime: a simulation polls by itself.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Wakes a task behind all that are ready now. One that wakes itself while it runs, the runtime takes up before them (hazard
/// RT-15).
pub fn wake_last(waker: Waker) {
    if RUNS.get() {
        spawn(async move { waker.wake() }, || {});
    } else {
        waker.wake();
    }
}

/// Spawns a task on this worker. A panic ends the task, and only it; `on_panic` is told.
#[expect(clippy::disallowed_methods, reason = "the one guarded spawn")]
pub fn spawn(task: impl Future<Output = ()> + 'static, on_panic: impl FnOnce() + 'static) {
    let guarded = Guarded { task, on_panic: Some(on_panic) };
    if local::is_here() {
        local::take_up(guarded);
        return;
    }
    monoio::spawn(guarded);
}

pin_project_lite::pin_project! {
    // An `async` block around the task would hold it twice: once as what it captured, once pinned.
    struct Guarded<T, P> {
        #[pin]
        task: T,
        on_panic: Option<P>,
    }
}

impl<T: Future<Output = ()>, P: FnOnce()> Future for Guarded<T, P> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        match catch_unwind(AssertUnwindSafe(|| this.task.poll(cx))) {
            Ok(polled) => polled,
            Err(_) => {
                if let Some(on_panic) = this.on_panic.take() {
                    on_panic();
                }
                Poll::Ready(())
            }
        }
    }
}

/// A clock that ticks every [`SWEEP`]: a timerfd, so that the loop itself needs no timer.
#[derive(Debug)]
pub struct Ticker {
    io: Handle,
}

impl Ticker {
    /// Starts ticking.
    ///
    /// # Errors
    /// Those of `timerfd_create(2)`.
    pub fn start() -> io::Result<Ticker> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let period = Timespec { tv_sec: 0, tv_nsec: SWEEP.subsec_nanos().into() };
        let spec = Itimerspec { it_interval: period, it_value: period };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &spec)?;
        let io = Handle::from_std(UnixStream::from(timer))?;
        Ok(Ticker { io })
    }

    /// Waits for the next tick.
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn tick(&self) -> io::Result<()> {
        wait_for_timer(&self.io).await
    }
}

pub(super) async fn wait_for_timer(timer: &Handle) -> io::Result<()> {
    loop {
        let mut count = [0; 8];
        match rustix::io::read(crate::net::sys::fd(timer), &mut count) {
            Err(rustix::io::Errno::AGAIN) => timer.readable(false).await?,
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// A wait whose descriptor is there from the start: for when descriptors are what has run out.
#[derive(Debug)]
pub struct Delay {
    io: Handle,
}

impl Delay {
    /// Waits for nothing yet, and costs nothing but its descriptor.
    ///
    /// # Errors
    /// Those of `timerfd_create(2)`.
    pub fn new() -> io::Result<Delay> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Delay { io: Handle::from_std(UnixStream::from(timer))? })
    }

    /// Waits for [`SWEEP`].
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn wait(&self) -> io::Result<()> {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Timespec { tv_sec: 0, tv_nsec: SWEEP.subsec_nanos().into() };
        let spec = Itimerspec { it_interval: never, it_value: once };
        let timer = crate::net::sys::fd(&self.io);
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &spec)?;
        wait_for_timer(&self.io).await
    }
}

/// The worker's end of a doorbell: control rings it after it has put something into the worker's mailbox.
#[derive(Debug)]
pub struct Doorbell {
    io: Handle,
}

impl Doorbell {
    /// Adopts the worker's end.
    ///
    /// # Errors
    /// When the driver cannot register it.
    pub fn adopt(end: std::os::fd::OwnedFd) -> io::Result<Doorbell> {
        let io = Handle::from_std(UnixStream::from(end))?;
        Ok(Doorbell { io })
    }

    /// Waits until it rings. False when control is gone.
    pub async fn rung(&self) -> bool {
        loop {
            let mut rings = [0; 64];
            match rustix::io::read(crate::net::sys::fd(&self.io), &mut rings) {
                Err(rustix::io::Errno::AGAIN) => {
                    if self.io.readable(false).await.is_err() {
                        return false;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(n) if n > 0 => return true,
                _ => return false,
            }
        }
    }
}

/// Control's end of a doorbell and the worker's.
///
/// # Errors
/// Those of `socketpair(2)`.
pub fn doorbell() -> io::Result<(Ringer, std::os::fd::OwnedFd)> {
    let flags = rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        flags,
        None,
    )?;
    Ok((Ringer { end: ours }, theirs))
}

/// Control's end of a doorbell.
#[derive(Debug)]
pub struct Ringer {
    end: std::os::fd::OwnedFd,
}

impl Ringer {
    /// Rings. A full bell has been rung already.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.end, &[1]);
    }

    /// Another handle on the same end.
    ///
    /// # Errors
    /// Those of `dup(2)`.
    pub fn try_clone(&self) -> io::Result<Ringer> {
        Ok(Ringer { end: self.end.try_clone()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    // Hazard RT-01.
    #[test]
    fn a_panicking_task_costs_only_itself() {
        for driver in [Driver::Epoll, Driver::IoUring] {
            if driver == Driver::IoUring && probe_ring().is_err() {
                continue;
            }
            let told = Rc::new(Cell::new(0));
            let seen = Rc::clone(&told);
            run(driver, || async move {
                let ticker = Ticker::start().unwrap();
                for _ in 0..3 {
                    let told = Rc::clone(&told);
                    spawn(async { panic!("a bug") }, move || told.set(told.get() + 1));
                }
                ticker.tick().await.unwrap();
                ticker.tick().await.unwrap();
            })
            .unwrap();
            assert_eq!(seen.get(), 3, "{driver:?}: the others and the worker go on");
        }
    }
}
