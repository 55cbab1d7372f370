//! Who speaks. The principal comes from the bearer alone; what it may do is decided where it is asked for.

mod principal;
mod token;

pub use principal::{Denied, Principal, bearer, resolve};
pub use token::{Secret, TokenHash};
