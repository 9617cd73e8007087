//! One request, several answers: what is mirrored and compared, what is injected, and how parts are merged.
//!
//! Pure decisions; `proxy` sends and receives.

/// Where copies of requests go, and whether their answers are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MirrorSettings {}

/// What is made to go wrong on purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InjectSettings {}

/// The parts that one answer is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AggregateSettings {}
