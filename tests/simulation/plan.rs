//! What a seed decides before a run begins: what happens when, and what targets and connections are like.

use crate::answers::Kind;
use crate::target::Nature;
use fastrand::Rng;
use ringgate::net::memory::Shape;

/// What happens to the world besides its peers, by the round.
pub struct Plan {
    pub clients: usize,
    pub connect_every: usize,
    pub reload_at: Vec<usize>,
    pub flip_at: Vec<usize>,
    pub drain_at: usize,
    pub leap_at: usize,
    /// When everything stops, and whether what is in flight may end before the drain.
    pub stop_at: usize,
    pub settles: bool,
    /// Sweeps from the drain to the cut.
    pub drains: usize,
    /// How impatient the executor is: polls a round, at most.
    pub polls: usize,
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Plan {
        let some = |rng: &mut Rng, one_in: u8| {
            let times = if rng.u8(..one_in) == 0 { rng.usize(1..4) } else { 0 };
            (0..times).map(|_| rng.usize(..150)).collect::<Vec<_>>()
        };
        Plan {
            clients: rng.usize(4..14),
            connect_every: rng.usize(1..12),
            reload_at: some(rng, 3),
            flip_at: some(rng, 3),
            drain_at: if rng.u8(..6) == 0 { rng.usize(..120) } else { usize::MAX },
            leap_at: if rng.u8(..8) == 0 { rng.usize(..100) } else { usize::MAX },
            stop_at: if rng.u8(..3) == 0 { rng.usize(5..120) } else { usize::MAX },
            drains: [0, 0, 2, 30][rng.usize(..4)],
            settles: rng.bool(),
            polls: [usize::MAX, usize::MAX, 3, 1][rng.usize(..4)],
        }
    }
}

/// What a target is like.
pub fn nature(rng: &mut Rng) -> Nature {
    let kind = |_| Kind::ALL[rng.usize(..Kind::ALL.len())];
    let mut kinds: Vec<Kind> = (0..4).map(kind).collect();
    kinds.truncate(rng.usize(1..5));
    let mut trouble = [0, 20, 60, 100][rng.usize(..4)];
    if rng.u8(..3) == 0 {
        // What crosses between clients if anything does, and not much else.
        let all = [[Kind::Unasked, Kind::Extra], [Kind::Early, Kind::Early]];
        kinds = all[rng.usize(..2)].to_vec();
        trouble = 80;
    }
    Nature { trouble, kinds, largest: [6000, 20_000, 90_000][rng.usize(..3)] }
}

/// How a connection behaves.
pub fn shape(rng: &mut Rng) -> Shape {
    let capacity = |rng: &mut Rng| [1 << 18, 1 << 16, 5000, 700][rng.usize(..4)];
    Shape {
        capacity: [capacity(rng), capacity(rng)],
        most: [usize::MAX, usize::MAX, 4000, 333][rng.usize(..4)],
        reset_overtakes: rng.bool(),
    }
}
