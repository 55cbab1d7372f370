//! The `baton` programme.

fn main() {}
