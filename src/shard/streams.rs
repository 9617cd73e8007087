//! HTTP/2 of clients on one core: connections, their streams, and how many of these the client called off.
//!
//! Written by one worker, read by control, as the cells of `base::meters` are. What a client is refused, or told by GOAWAY, is a
//! fault and counted as such.

use crate::base::meters::Counter;

/// The HTTP/2 of clients that one worker has served.
#[derive(Debug, Default)]
pub struct StreamCounts {
    /// Connections open now.
    pub connections: Counter,
    /// Streams that were begun.
    pub begun: Counter,
    /// Streams open now.
    pub open: Counter,
    /// Streams that ended before their answer began, since the client reset them or left.
    pub cancelled: Counter,
}

impl StreamCounts {
    /// Sets the gauges to nothing. Only for a worker whose thread has ended.
    pub fn vacate(&self) {
        self.connections.set(0);
        self.open.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_has_nothing_open() {
        let counts = StreamCounts::default();
        for counter in [&counts.connections, &counts.begun, &counts.open, &counts.cancelled] {
            counter.add(2);
        }
        counts.vacate();
        let values = [&counts.connections, &counts.begun, &counts.open, &counts.cancelled];
        assert_eq!(values.map(Counter::value), [0, 2, 0, 2]);
    }
}
