//! What cookies that keep clients where they are are sealed with: the secrets of the file, or a key of this process.
//!
//! The key of the process is made once and goes from snapshot to snapshot. It always opens, so that clients stay where they are when
//! the file gets secrets while the process runs. Nothing is sealed here. Called by `compile`.

use crate::base::sealed::{Ring, Secret, random};
use crate::sticky::DOMAIN;
use std::sync::Arc;

/// The keys.
#[derive(Debug)]
pub struct Seals {
    /// The file's, the sealing one first, and the process's own.
    pub ring: Arc<Ring>,
    own: Secret,
}

impl Seals {
    /// The keys of a file with these secrets; `None` where the system has no randomness.
    pub fn new(secrets: &[Secret], old: Option<&Seals>) -> Option<Seals> {
        let own = match old {
            Some(old) => old.own.clone(),
            None => Secret::new(&random::<32>()?),
        };
        let mut all = secrets.to_vec();
        all.push(own.clone());
        Some(Seals { ring: Arc::new(Ring::of(DOMAIN, &all)?), own })
    }

    /// The key of the process: whoever has it opens what this process has sealed.
    pub fn own(&self) -> &Secret {
        &self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_after_a_reload_and_on_nodes_with_the_same_secrets() {
        let opens = |seals: &Seals, text: &str| seals.ring.open(b"", text.as_bytes()).is_some();
        let seal = |seals: &Seals| seals.ring.seal(b"", vec![1]).unwrap();
        let (one, two) = (Secret::new(&[1; 32]), Secret::new(&[2; 32]));
        let alone = Seals::new(&[], None).unwrap();
        let other = Seals::new(&[], None).unwrap();
        assert!(!opens(&other, &seal(&alone)));
        let again = Seals::new(&[], Some(&alone)).unwrap();
        assert!(opens(&again, &seal(&alone)));
        let with = Seals::new(std::slice::from_ref(&one), Some(&again)).unwrap();
        assert!(opens(&with, &seal(&alone)), "secrets were added");
        assert!(
            opens(&Seals::new(std::slice::from_ref(&one), None).unwrap(), &seal(&with)),
            "another node"
        );
        let rotated = Seals::new(&[two.clone(), one], Some(&with)).unwrap();
        assert!(opens(&rotated, &seal(&with)));
        let without = Seals::new(&[two], Some(&rotated)).unwrap();
        assert!(opens(&without, &seal(&rotated)) && !opens(&without, &seal(&with)));
        assert_eq!(format!("{:?}", Secret::new(b"x")), "Secret");
    }
}
