//! The loop of the control thread: start everything, hear signals, reload, stop.
//!
//! A reload does all that can fail first (read, check, compile, bind, open the log); only then is anything published.

mod certificates;
mod signals;
mod usage;

use crate::admin;
use crate::base::Tick;
use crate::config::{self, AccessLog, Config, Problem, Problems};
use crate::control::acme::{Acme, Obtained};
use crate::control::answers::Answers;
use crate::control::check::{self, Checked};
use crate::control::crew::{Crew, End, Ended, NotReplaced};
use crate::control::descriptors::Needs;
use crate::control::expiry::Expiry;
use crate::control::jwks::Jwks;
use crate::control::ledger::Ledger;
use crate::control::notify::{self, Notify};
use crate::control::report::{self, GroupLine, StartScreen};
use crate::control::resolve::Resolver;
use crate::control::rights::Rights;
use crate::control::sockets::{Bound, Change, Sockets};
use crate::control::source::{Shared, unix_now};
use crate::control::watch::{NameChanged, Names, Probes};
use crate::control::watchdog::{self, Alarm};
use crate::control::{EXIT_FAILED, EXIT_WRONG, fresh, listener_tls, storing};
use crate::net::runtime::{self, Driver};
use crate::observe::{self, Format, LogHandle, Output};
use crate::shard::{self, Machine, Message, Post};
use crate::snapshot::{self, Snapshot};
use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, unbounded};
use signals::Signals;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinHandle;

/// Where the configuration comes from.
#[derive(Debug)]
pub enum From {
    /// A file: read again on SIGHUP.
    File(PathBuf),
    /// The demo's own.
    Demo {
        /// What to try, printed after the start.
        hints: String,
        /// It stops by itself after this long.
        stop_after: Option<Duration>,
    },
}

// While stopping, and for the graveyard: how often things are looked at.
const LOOK: Duration = Duration::from_millis(100);
// After the drain time: how long broken-off exchanges get to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

struct Service {
    from: From,
    config: Config,
    machine: Arc<Machine>,
    crew: Crew,
    sockets: Sockets,
    shared: Arc<Shared>,
    probes: Probes,
    names: Names,
    log: LogHandle,
    format: Arc<Format>,
    admin: Option<JoinHandle<()>>,
    graveyard: Receiver<Arc<Snapshot>>,
    buried: Vec<Arc<Snapshot>>,
    ended: UnboundedReceiver<Ended>,
    alarms: UnboundedReceiver<Alarm>,
    renamed: UnboundedReceiver<NameChanged>,
    acme: Acme,
    jwks: Jwks,
    obtained: UnboundedReceiver<Obtained>,
    rights: Rights,
    notify: Notify,
    watch: fresh::Watch,
    expiry: Expiry,
    warned: Vec<Problem>,
    ledger: Ledger,
}

/// Serves until told to stop, with the rights that are left; the exit code.
pub async fn serve(
    from: From,
    checked: Checked,
    stop_after: Option<Duration>,
    rights: Rights,
) -> u8 {
    let Ok(mut signals) = Signals::listen() else {
        eprintln!("signals cannot be heard");
        return EXIT_FAILED;
    };
    let mut service = match Service::start(from, checked, rights).await {
        Ok(service) => service,
        Err(failed) => {
            eprintln!("{}", failed.text);
            return failed.code;
        }
    };
    let stop = async {
        match stop_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let mut stop = std::pin::pin!(stop);
    let mut look = tokio::time::interval(LOOK);
    let mut look_at_files = tokio::time::interval(fresh::LOOK);
    loop {
        tokio::select! {
            _ = signals.hup.recv() => service.reload().await,
            _ = signals.usr1.recv() => service.log.reopen(),
            _ = signals.term.recv() => return service.drain(&mut signals).await,
            _ = signals.quit.recv() => return service.drain(&mut signals).await,
            _ = signals.int.recv() => return service.stop("SIGINT: stopping at once"),
            () = &mut stop => return service.stop("the demo's time is over"),
            Some(ended) = service.ended.recv() => service.note_end(ended),
            Some(alarm) = service.alarms.recv() => service.answer(alarm),
            Some(NameChanged) = service.renamed.recv() => service.rename().await,
            Some(Obtained(name)) = service.obtained.recv() => service.take_up_obtained(name).await,
            _ = look_at_files.tick() => {
                service.turn_tickets();
                service.look_at_files().await;
            }
            _ = look.tick() => {
                service.bury();
                service.tend();
                service.probes.guard(&service.shared.current.load_full());
                service.tell_alive();
            }
        }
    }
}

// Where policies' questions are answered: not on the thread that compiles.
fn answers(cpus: usize, back: Post) -> Result<Answers, String> {
    let reply = move |worker, ticket, reply| {
        back.tell(worker, Message::Replied { ticket, reply });
    };
    let answers = Answers::start(cpus, Resolver::system(), reply);
    answers.map_err(|e| format!("no thread for policies' questions: {e}"))
}

struct Failed {
    text: String,
    code: u8,
}

impl Failed {
    fn run(text: impl std::fmt::Display) -> Failed {
        Failed { text: format!("ringgate cannot start: {text}"), code: EXIT_FAILED }
    }
}

impl Service {
    async fn start(from: From, checked: Checked, rights: Rights) -> Result<Service, Failed> {
        let Checked { config, files, warnings, .. } = checked;
        let mut watch = fresh::Watch::default();
        watch.use_now(files);
        let (driver, note) = driver(config.server.driver)?;
        let cpus = cpus(&config.server);
        let (to_graveyard, graveyard) = unbounded();
        let (ended_tx, ended) = mpsc::unbounded_channel();
        let (renamed_tx, renamed) = mpsc::unbounded_channel();
        let names = Names::new(renamed_tx);
        names.meet(&config).await;
        let format = Format::parse(&config.log.format)
            .map_err(|e| Failed { text: e.to_string(), code: EXIT_WRONG })?;
        let log = observe::start(config.log.access.clone())
            .map_err(|e| Failed::run(format!("the access log {:?}: {e}", config.log.access)))?;
        let snapshot = compile(&config, &names, None, cpus.len()).map_err(Failed::run)?;
        let mut jwks = Jwks::default();
        jwks.meet(&snapshot).await;
        let ledger = usage::begin(&config, &snapshot);
        let max = max_connections(&config, &snapshot, cpus.len(), None);
        let machine = storing::machine(max, &config);
        let answers = answers(cpus.len(), machine.post.clone()).map_err(Failed::run)?;
        let asks = answers.sender();
        let mut crew = Crew::new(driver, cpus, Arc::clone(&machine), to_graveyard, ended_tx, asks);
        let mut sockets = Sockets::default();
        let change = plan(&mut sockets, &config, &snapshot, &crew).map_err(Failed::run)?;
        let admin_socket = match &config.admin {
            Some(admin) => Some(bind_admin(admin).await.map_err(Failed::run)?),
            None => None,
        };
        let format = Arc::new(format);
        for id in 0..crew.len() {
            let sink = shard_log(&config, &log, &format);
            crew.start(id, Arc::clone(&snapshot), sink).map_err(Failed::run)?;
        }
        let (alarms_tx, alarms) = mpsc::unbounded_channel();
        watchdog::start(crew.pulses(), alarms_tx).map_err(Failed::run)?;
        let probes = Probes::default();
        let (obtained_tx, obtained) = mpsc::unbounded_channel();
        let acme = Acme::new(Arc::clone(&snapshot.challenges), obtained_tx);
        let shared = Arc::new(Shared {
            current: ArcSwap::new(Arc::clone(&snapshot)),
            config: ArcSwap::from_pointee(config.clone()),
            pulses: crew.pulses(),
            acme: acme.known(),
            healths: probes.healths.clone(),
            answers: answers.stats(),
            usage: ledger.stat(),
            store: Arc::clone(&machine.store),
            log: log.clone(),
            driver: driver.name(),
            started_unix: unix_now(),
            takings_ok: 0.into(),
            takings_failed: 0.into(),
            reloads_ok: 0.into(),
            reloads_failed: 0.into(),
            last_reload_ok: true.into(),
            last_reload_unix: unix_now().into(),
            worker_restarts: 0.into(),
            max_connections: max.into(),
            stopping: false.into(),
        });
        let mut service = Service {
            from,
            config,
            machine,
            crew,
            sockets,
            shared,
            probes,
            names,
            log,
            format,
            admin: None,
            graveyard,
            buried: Vec::new(),
            ended,
            alarms,
            renamed,
            acme,
            jwks,
            obtained,
            rights,
            notify: Notify::from_environment(),
            watch,
            expiry: Expiry::default(),
            warned: warnings,
            ledger,
        };
        service.expiry.follow(&service.config, unix_now());
        // Probes begin with the start, so that the first requests find out least.
        service.probes.follow(&service.config, &snapshot);
        service.names.follow(&service.config);
        service.acme.follow(&service.config);
        service.listen(change.added);
        service.serve_admin(admin_socket);
        service.greet(note);
        Ok(service)
    }

    // Tells workers which sockets to serve.
    fn listen(&mut self, added: Vec<Bound>) {
        for bound in added {
            self.sockets.serve(bound, &self.crew);
        }
    }

    // Tells workers which sockets to leave. Control's own descriptors go first: then a worker's is the last, and closes
    // the queue right after it has emptied it.
    fn unlisten(&mut self, removed: Vec<u64>) {
        for token in removed {
            self.sockets.bound.retain(|b| b.token != token);
            self.crew.tell_all(|_| Message::Unlisten { token });
        }
    }

    fn serve_admin(&mut self, socket: Option<tokio::net::TcpListener>) {
        if let Some(before) = self.admin.take() {
            before.abort();
        }
        self.admin = socket.map(|socket| {
            let source: Arc<dyn admin::Source> = Arc::<Shared>::clone(&self.shared);
            tokio::spawn(admin::serve(socket, source))
        });
    }

    fn greet(&self, note: Option<String>) {
        if let Some(note) = &note {
            tracing::warn!("{note}");
        }
        report::note(&self.config);
        let listeners = self.config.listeners.iter().map(|l| {
            let snapshot = self.shared.current.load();
            let id = snapshot.listeners.iter().find(|s| *s.name == *l.name).map(|s| s.id);
            let bound = self.sockets.bound.iter().filter(|b| Some(b.listener) == id);
            (l.name.clone(), bound.map(|b| b.address.to_string()).collect())
        });
        let groups = self.config.groups.iter().map(|g| GroupLine {
            name: g.name.clone(),
            targets: g.targets.len(),
            algorithm: report::algorithm_name(&g.algorithm).to_owned(),
        });
        let (config, hints) = match &self.from {
            From::File(path) => (path.display().to_string(), None),
            From::Demo { hints, .. } => ("the demo's own".to_owned(), Some(hints)),
        };
        print!(
            "{}",
            report::start_screen(&StartScreen {
                version: env!("CARGO_PKG_VERSION"),
                config,
                driver: self.crew.driver.name(),
                driver_note: note,
                workers: self.crew.len(),
                pinned: self.config.server.pin,
                listeners: listeners.collect(),
                rules: self.config.rules.len(),
                groups: groups.collect(),
                admin: self.config.admin.as_ref().map(|a| a.bind.to_string()),
                access_log: match &self.config.log.access {
                    AccessLog::Off => "off".to_owned(),
                    AccessLog::Stdout => "stdout".to_owned(),
                    AccessLog::File(path) => path.display().to_string(),
                },
            })
        );
        if let Some(hints) = hints {
            println!("{hints}");
        }
        use std::io::Write;
        let _ = std::io::stdout().flush();
    }

    async fn reload(&mut self) {
        let From::File(path) = &self.from else {
            tracing::info!("SIGHUP: the demo has no file to read again");
            return;
        };
        let path = path.clone();
        self.notify.reloading();
        let checked = check::check(&path);
        self.warned.clear();
        self.warn(checked.warnings.iter().chain(&checked.expired));
        let expires = listener_tls::would_expire(&checked.config, &self.shared.current.load());
        let result = if let Some(expires) = expires {
            Err(expires)
        } else if checked.problems.0.is_empty() {
            let adopted = self.adopt(checked.config).await;
            self.taken_up().await;
            adopted
        } else {
            Err(self.explained(&checked.problems))
        };
        self.notify.reloaded(result.is_ok());
        match &result {
            Ok(_) => self.watch.use_now(checked.files),
            Err(_) => self.watch.tried(checked.files),
        }
        let shared = &self.shared;
        shared.last_reload_unix.store(unix_now(), Ordering::Relaxed);
        shared.last_reload_ok.store(result.is_ok(), Ordering::Relaxed);
        match result {
            Ok(generation) => {
                shared.reloads_ok.fetch_add(1, Ordering::Relaxed);
                tracing::info!(generation, file = %path.display(), "reloaded");
            }
            Err(text) => {
                shared.reloads_failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!("reload refused, the configuration stays as it was:\n{text}");
            }
        }
    }

    // Says what was not said since the file was read.
    fn warn<'a>(&mut self, warnings: impl Iterator<Item = &'a Problem>) {
        let warnings: Vec<Problem> = warnings.cloned().collect();
        for warning in warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.warned = warnings;
    }

    fn explained(&self, problems: &Problems) -> String {
        let lines = [Some(problems.to_string()), self.rights.explain(problems)];
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    // Everything that can fail, then everything that cannot.
    async fn adopt(&mut self, config: Config) -> Result<u64, String> {
        if config.log.access != self.config.log.access {
            self.rights.admit(&config.log.access)?;
        }
        self.rights.admit_storage(&config)?;
        self.names.meet(&config).await;
        let old = self.shared.current.load_full();
        let snapshot = compile(&config, &self.names, Some(&old), self.crew.len())?;
        self.jwks.meet(&snapshot).await;
        let format = Format::parse(&config.log.format).map_err(|e| e.to_string())?;
        let change = plan(&mut self.sockets, &config, &snapshot, &self.crew)?;
        let new_admin = match (&config.admin, &self.config.admin) {
            (Some(new), Some(old)) if new.bind == old.bind => None,
            (None, _) => Some(None),
            (Some(new), _) => Some(Some(bind_admin(new).await?)),
        };
        let output = match config.log.access == self.config.log.access {
            true => None,
            false => Some(Output::open(config.log.access.clone()).map_err(|e| {
                format!("the access log {:?} cannot be opened: {e}", config.log.access)
            })?),
        };
        let restart = |what| tracing::warn!("{what} changed: it takes effect at the next start");
        let (new, now) = (&config.server, &self.config.server);
        if new.workers != now.workers || new.pin != now.pin || new.driver != now.driver {
            restart("server.workers, pin or driver");
        }
        let said = Some(self.config.server.max_connections);
        let max = max_connections(&config, &snapshot, self.crew.len(), said);
        storing::follow(&self.machine, max, &self.config, &config);
        self.shared.max_connections.store(max, Ordering::Relaxed);
        if new.identity() != now.identity() {
            restart("server.user, group or sandbox");
        }
        self.follow_usage(&config, &snapshot);
        self.shared.config.store(Arc::new(config.clone()));
        self.config = config;
        self.shared.current.store(Arc::clone(&snapshot));
        // What is queued at a listener that goes is accepted before its worker forgets it.
        let Change { added, removed } = change;
        self.unlisten(removed);
        self.crew.tell_all(|_| Message::Publish(Arc::clone(&snapshot)));
        if let Some(output) = output {
            self.log.set_output(output);
        }
        self.format = Arc::new(format);
        self.crew.tell_all(|_| Message::Log(shard_log(&self.config, &self.log, &self.format)));
        self.listen(added);
        self.probes.follow(&self.config, &snapshot);
        self.names.follow(&self.config);
        self.acme.follow(&self.config);
        self.expiry.follow(&self.config, unix_now());
        if let Some(socket) = new_admin {
            self.serve_admin(socket);
        }
        Ok(snapshot.generation)
    }

    fn tell_alive(&mut self) {
        let (shared, now) = (&self.shared, Tick::now());
        let alive = || notify::alive(&shared.pulses, now);
        self.notify.look(now, || admin::Source::ready(&**shared).is_ok(), alive);
    }

    // Until every worker serves by the newest snapshot: only then is a reload said to be done. A stuck worker is not
    // waited for.
    async fn taken_up(&self) {
        let newest = self.shared.current.load().generation;
        let behind = || {
            let serving = |p: &&Arc<shard::Pulse>| {
                p.seat.get() == shard::Seat::Serving && !p.stuck.load(Ordering::Relaxed)
            };
            let mut pulses = self.shared.pulses.iter().filter(serving);
            pulses.any(|p| p.generation.load(Ordering::Relaxed) < newest)
        };
        for _ in 0..200 {
            if !behind() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    // A name resolves differently: the same file, other targets.
    async fn rename(&mut self) {
        while self.renamed.try_recv().is_ok() {}
        let config = self.config.clone();
        match self.adopt(config).await {
            Ok(generation) => tracing::info!(generation, "targets follow their names"),
            Err(error) => tracing::error!("new addresses of names cannot be taken up: {error}"),
        }
    }

    fn note_end(&mut self, ended: Ended) {
        let worker = ended.worker;
        let why = ended.error.unwrap_or_else(|| "ended without being told".to_owned());
        match self.crew.note_end(worker, &self.shared.current.load(), Tick::now()) {
            End::Died(wait) => {
                tracing::error!(worker, "a worker died ({why}); it is started again in {wait:?}");
            }
            End::Finished => tracing::warn!(worker, "a worker that was replaced has ended"),
        }
    }

    // What has to be done for workers now and then; starts those again that died, once their wait is over.
    fn tend(&mut self) {
        self.sockets.offer_again(&self.crew);
        for place in self.crew.tend(Tick::now()) {
            let snapshot = self.shared.current.load_full();
            let log = shard_log(&self.config, &self.log, &self.format);
            match self.crew.start(place, snapshot, log) {
                Ok(()) => self.take_over(place),
                Err(error) => tracing::error!(place, %error, "a worker cannot be started again"),
            }
        }
    }

    fn answer(&mut self, alarm: Alarm) {
        let worker = match alarm {
            Alarm::Replace(worker) => worker,
            Alarm::Awake(worker) => {
                let cut = Tick::now().after(self.config.server.drain);
                return self.crew.finish(worker, cut);
            }
        };
        let snapshot = self.shared.current.load_full();
        let log = shard_log(&self.config, &self.log, &self.format);
        match self.crew.replace(worker, snapshot, log) {
            Ok(place) => {
                self.take_over(place);
                tracing::error!(worker, "a worker that is stuck was replaced");
            }
            Err(NotReplaced::NoNeed) => {}
            Err(NotReplaced::Failed(error)) => {
                tracing::error!(worker, %error, "a worker that is stuck cannot be replaced");
            }
            Err(NotReplaced::TooMany) => {
                // The error log's own thread may not get to it any more.
                eprintln!("ringgate: too many workers are stuck: aborting, to be started anew");
                self.log.flush_and_stop();
                std::process::abort();
            }
        }
    }

    // A worker that was just started serves what its predecessor did.
    fn take_over(&mut self, place: usize) {
        self.shared.worker_restarts.fetch_add(1, Ordering::Relaxed);
        self.sockets.offer_all(place, &self.crew);
    }

    // Snapshots are freed here, once no worker holds them: a worker would stall on ten thousand rules.
    fn bury(&mut self) {
        // Every worker hands in its own reference: one of them is kept, or the others would keep it alive for ever.
        for snapshot in self.graveyard.try_iter() {
            if !self.buried.iter().any(|buried| Arc::ptr_eq(buried, &snapshot)) {
                self.buried.push(snapshot);
            }
        }
        self.buried.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    async fn drain(&mut self, signals: &mut Signals) -> u8 {
        let patience = self.config.server.drain;
        tracing::info!("draining: no new connections; those in flight get {patience:?}");
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.notify.stopping();
        self.sockets.bound.clear();
        self.crew.tell_all(|_| Message::Drain);
        let mut cut = false;
        let mut deadline = tokio::time::Instant::now() + patience;
        while self.crew.any_running() {
            tokio::select! {
                _ = signals.term.recv() => return self.stop("second signal: stopping at once"),
                _ = signals.int.recv() => return self.stop("SIGINT: stopping at once"),
                _ = signals.hup.recv() => tracing::info!("SIGHUP while stopping: nothing is reloaded"),
                Some(ended) = self.ended.recv() => {
                    self.crew.note_end(ended.worker, &self.shared.current.load(), Tick::now());
                }
                () = tokio::time::sleep(LOOK) => {
                    self.crew.ring_all();
                    // Workers that have nothing left to do end one by one.
                    self.notify.look(Tick::now(), || false, || true);
                }
                () = tokio::time::sleep_until(deadline) => {
                    if cut {
                        break;
                    }
                    tracing::warn!("the drain time is over: what is in flight is broken off");
                    self.crew.cut_all();
                    (cut, deadline) = (true, tokio::time::Instant::now() + LAST_WORDS);
                }
            }
        }
        self.stop("drained")
    }

    fn stop(&mut self, why: &str) -> u8 {
        tracing::info!("{why}");
        self.ledger.stop();
        self.log.flush_and_stop();
        0
    }
}

fn driver(wanted: config::Driver) -> Result<(Driver, Option<String>), Failed> {
    if wanted == config::Driver::Epoll {
        return Ok((Driver::Epoll, None));
    }
    match (runtime::probe_ring(), wanted) {
        (Ok(()), config::Driver::IoUring) => Ok((Driver::IoUring, None)),
        (Ok(()), _) => Ok((Driver::Either, None)),
        (Err(error), config::Driver::IoUring) => Err(Failed::run(format!(
            "io_uring is refused ({error}); set server.driver = \"epoll\" or \"auto\", or allow io_uring (seccomp, kernel.io_uring_disabled)"
        ))),
        (Err(error), _) => Ok((
            Driver::Epoll,
            Some(format!("io_uring is refused ({error}): serving with epoll instead")),
        )),
    }
}

fn cpus(server: &config::Server) -> Vec<Option<core_affinity::CoreId>> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let workers = server.workers.unwrap_or(cores.len()).max(1);
    let core = |id: usize| cores.get(id % cores.len().max(1)).copied().filter(|_| server.pin);
    (0..workers).map(core).collect()
}

// As many as the file says, where the limit of open files allows it.
fn max_connections(config: &Config, snapshot: &Snapshot, workers: usize, said: Option<u64>) -> u64 {
    let wanted = config.server.max_connections;
    let Some(needs) = Needs::now(config, snapshot, workers) else { return wanted };
    let room = needs.room(wanted);
    // Not with each certificate that is renewed.
    if room < wanted && said != Some(wanted) {
        tracing::warn!(
            "max_connections = {wanted} does not fit into {} open files: {room} connections are taken at most \
             (raise the limit with ulimit -n or LimitNOFILE=)",
            needs.limit
        );
    }
    room
}

fn compile(
    config: &Config,
    names: &Names,
    old: Option<&Snapshot>,
    workers: usize,
) -> Result<Arc<Snapshot>, String> {
    let context = snapshot::compile::Context {
        generation: old.map_or(1, |o| o.generation + 1),
        workers,
        old,
        resolve: &|name| names.lookup(name),
    };
    snapshot::compile(config, context).map(Arc::new).map_err(|e| e.to_string())
}

fn plan(
    sockets: &mut Sockets,
    config: &Config,
    snapshot: &Snapshot,
    crew: &Crew,
) -> Result<Change, String> {
    let cpus: Vec<Option<usize>> = crew.cpus.iter().map(|c| c.map(|c| c.id)).collect();
    let steer = |name: &str| {
        let listener = config.listeners.iter().find(|l| l.name == name);
        listener.map_or((config::Steer::Off, 4096), |l| (l.steer, l.backlog))
    };
    sockets.plan(snapshot, &steer, &cpus).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

async fn bind_admin(admin: &config::Admin) -> Result<tokio::net::TcpListener, String> {
    tokio::net::TcpListener::bind(admin.bind)
        .await
        .map_err(|e| format!("admin.bind: cannot bind {}: {e}", admin.bind))
}

fn shard_log(config: &Config, log: &LogHandle, format: &Arc<Format>) -> shard::AccessLog {
    let sink = (config.log.access != AccessLog::Off).then(|| log.sink());
    shard::AccessLog { sink, format: Arc::clone(format) }
}
