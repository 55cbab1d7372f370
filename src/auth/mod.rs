//! Who speaks. The principal comes from the bearer alone; what it may do is decided where it is asked for.

mod code;
mod principal;
mod token;

pub use code::Codes;
pub use principal::{Denied, Principal, bearer, resolve};
pub use token::{Secret, TokenHash};
