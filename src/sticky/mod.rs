//! Which group or target a client stays with: cookies that say so, sealed, and what is believed of them.
//!
//! Pure: what a cookie says is decided here, who sends it on is `proxy::steer`'s work. Rules of failover are those of ALB.

/// How clients stay with one group of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {}

/// How clients stay with one target of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetSettings {}

/// Which requests are sent to a group that is tried out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CanarySettings {}
