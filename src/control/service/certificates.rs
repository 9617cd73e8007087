//! What the service does for certificates while it runs: takes up those that were replaced or obtained, and turns over the keys of
//! session tickets.

use super::Service;
use crate::control::source::unix_now;
use crate::control::{fresh, listener_tls};

impl Service {
    /// Certificates and keys that were replaced are taken up as the file would be.
    pub(super) async fn look_at_files(&mut self) {
        if !self.config.server.watch_certificates {
            return;
        }
        let changed = self.watch.look();
        if changed.is_empty() {
            return;
        }
        let changed: Vec<String> = changed.iter().map(|path| path.display().to_string()).collect();
        let changed = changed.join(", ");
        match self.reload().await {
            true => tracing::info!("{changed}: the new certificates are in use"),
            false => tracing::error!("{changed}: the certificates of before stay in use"),
        }
    }

    /// Keys of tickets are turned over here, never by a worker.
    pub(super) fn turn_tickets(&self) {
        let snapshot = self.shared.current.load();
        let secure = snapshot.listeners.iter().filter_map(|l| l.secure.as_ref());
        for tickets in secure.filter_map(|s| s.tickets.as_ref()) {
            if let Err(error) = tickets.turn_if_due(unix_now()) {
                tracing::error!("the keys of session tickets cannot be turned over: {error}");
            }
        }
    }

    /// A certificate is new in the storage: the same file, other certificates.
    pub(super) async fn renew(&mut self, name: &str) {
        let mut config = self.config.clone();
        let found = listener_tls::prepare(&mut config, &mut fresh::Files::default());
        let adopted = match found.problems.first() {
            Some(problem) => Err(problem.to_string()),
            None => self.adopt(config).await,
        };
        match adopted {
            Ok(generation) => tracing::info!(generation, name, "the new certificate is in use"),
            Err(error) => tracing::error!(name, "the new certificate cannot be taken up: {error}"),
        }
    }
}
