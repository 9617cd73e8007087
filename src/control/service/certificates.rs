//! What keeps certificates fresh while the file stays as it is: files that changed, certificates that were obtained, OCSP
//! responses that expired, and the warning before an end.
//!
//! All of them end in [`Service::take_up`]: the running configuration with its files read again, checked as any other and
//! published at once. The file itself is not read, which somebody may be writing just now. Called by the loop of `service`.

use super::Service;
use crate::control::check;
use crate::control::listener_tls;
use crate::control::source::unix_now;
use std::sync::atomic::Ordering;

impl Service {
    /// Looks whether files have changed, and what the hour asks for.
    pub(super) async fn look_at_files(&mut self) {
        for line in self.expiry.lines(&self.config, unix_now()) {
            tracing::warn!("{line}");
        }
        if self.expiry.staple_ended(unix_now()) {
            self.take_up("an OCSP response has expired").await;
        }
        if !self.config.server.watch_certificates {
            return;
        }
        let changed = self.watch.look();
        if !changed.is_empty() {
            let names: Vec<String> =
                changed.iter().map(|path| path.display().to_string()).collect();
            self.take_up(&format!("changed: {}", names.join(", "))).await;
        }
    }

    /// Turns over the keys of session tickets that are due, which no worker has the time for.
    pub(super) fn turn_tickets(&self) {
        let snapshot = self.shared.current.load();
        let secure = snapshot.listeners.iter().filter_map(|l| l.secure.as_ref());
        for tickets in secure.filter_map(|s| s.tickets.as_ref()) {
            if let Err(error) = tickets.turn_if_due(unix_now()) {
                tracing::error!("the keys of session tickets cannot be turned over: {error}");
            }
        }
    }

    /// A certificate is new in the storage, perhaps several.
    pub(super) async fn take_up_obtained(&mut self, first: String) {
        let mut names = vec![first];
        while let Ok(more) = self.obtained.try_recv() {
            names.push(more.0);
        }
        self.take_up(&format!("obtained: {}", names.join(", "))).await;
    }

    /// The running configuration, with other files. What is of no use changes nothing.
    async fn take_up(&mut self, why: &str) {
        let checked = check::again(self.config.clone());
        self.warn(checked.warnings.iter().chain(&checked.expired));
        let expires = listener_tls::would_expire(&checked.config, &self.shared.current.load());
        let result = match expires {
            Some(expires) => Err(expires),
            None if checked.problems.0.is_empty() => self.adopt(checked.config).await,
            None => Err(self.explained(&checked.problems)),
        };
        match result {
            Ok(generation) => {
                self.watch.use_now(checked.files);
                self.taken_up().await;
                self.shared.takings_ok.fetch_add(1, Ordering::Relaxed);
                tracing::info!(generation, "{why}: what they hold now is in use");
            }
            Err(text) => {
                self.watch.tried(checked.files);
                self.shared.takings_failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    "{why}: what they held before stays in use, until files change again:\n{text}"
                );
            }
        }
    }
}
