//! Names that nobody can guess.

use std::fmt::Write;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// 128 random bits in hexadecimal.
///
/// # Errors
/// When the kernel has no random numbers to give.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().fold(String::with_capacity(32), |mut name, byte| {
        // Writing to a string cannot fail.
        write!(name, "{byte:02x}").ok();
        name
    }))
}

#[cfg(test)]
mod tests {
    use super::random_name;

    #[test]
    fn names_are_long_and_differ() {
        let names = [random_name().unwrap(), random_name().unwrap()];
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.len() == 32), "{names:?}");
    }
}
