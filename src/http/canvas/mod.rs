//! What the page looks at: a picture of everything, lists of delegations, one with all that belongs to it; and what is done
//! to many at once.

pub(crate) mod bulk;
mod deliveries;
pub(crate) mod lines;
pub(crate) mod picture;
mod wanted;
pub(crate) mod whole;
