//! Secrets: they print nothing, and are wiped.

use std::fmt;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const TOKEN_BYTES: usize = 32;

/// What a caller shows beside its certificate: 256 random bits.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Deserialize)]
#[serde(try_from = "String")]
pub struct Token([u8; TOKEN_BYTES]);

/// The text is not a token. Does not repeat it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has {} hexadecimal digits", TOKEN_BYTES * 2)]
pub struct NoToken;

impl Token {
    /// A new one, from the kernel's random numbers.
    ///
    /// # Errors
    /// When the kernel has none to give.
    pub fn random() -> io::Result<Self> {
        let mut token = Self([0; TOKEN_BYTES]);
        let mut filled = 0;
        while filled < TOKEN_BYTES {
            filled += getrandom(&mut token.0[filled..], GetRandomFlags::empty())?;
        }
        Ok(token)
    }

    /// Reads what [`Self::text`] wrote, and nothing else.
    ///
    /// # Errors
    /// When it has another length or other digits.
    pub fn parse(text: &[u8]) -> Result<Self, NoToken> {
        let mut token = Self([0; TOKEN_BYTES]);
        if text.len() != TOKEN_BYTES * 2 {
            return Err(NoToken);
        }
        for (byte, digits) in token.0.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Ok(token)
    }

    /// The digits, for the one header and the one file that carry them.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_BYTES * 2));
        for half in self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
            text.push(char::from_digit(half.into(), 16).unwrap_or('0'));
        }
        text
    }

    /// Compares in a time that does not tell where they differ.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

fn digit(letter: u8) -> Result<u8, NoToken> {
    match letter {
        b'0'..=b'9' => Ok(letter - b'0'),
        b'a'..=b'f' => Ok(letter - b'a' + 10),
        _ => Err(NoToken),
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

impl TryFrom<String> for Token {
    type Error = NoToken;

    fn try_from(text: String) -> Result<Self, NoToken> {
        Self::parse(Zeroizing::new(text).as_bytes())
    }
}

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// Text that nobody may see, a private key for example.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes it in.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever has to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretText(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_never_printed() {
        let token = Token::random().unwrap();
        let read = Token::parse(token.text().as_bytes()).unwrap();
        assert!(token.is(&read));
        assert!(!token.is(&Token::random().unwrap()));
        assert_eq!(format!("{token:?}"), "Token(..)");
        let key = SecretText::new("key".to_owned());
        assert_eq!(format!("{key:?}"), "SecretText(..)");
    }

    #[test]
    fn short_long_and_foreign_texts_are_no_tokens() {
        for text in ["", "ab", &"a".repeat(63), &"a".repeat(65), &"A".repeat(64), &"g".repeat(64)] {
            assert_eq!(Token::parse(text.as_bytes()).unwrap_err(), NoToken, "{text}");
        }
    }
}
