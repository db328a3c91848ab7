//! What is in an access file.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authority::Signed;
use crate::{AccessError, SERVER_NAME, SecretText, Token};

/// The format that this build writes.
const VERSION: u32 = 1;

/// A certificate and its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Certificates in PEM, the own one first.
    pub certificate: String,
    /// Private key in PEM.
    pub key: SecretText,
}

/// What the agents and drivers of one cluster share.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessFile {
    version: u32,
    /// Certificates in PEM that vouch for both sides. `None`: plain text, which is
    /// for loopback only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub authority: Option<String>,
    /// The name that agents' certificates carry. `None`: their hosts' names.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server_name: Option<String>,
    /// Shown with each request.
    pub token: Token,
    /// Who agents are: to drivers, and to each other. Drivers need it not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<Identity>,
    /// Who drivers are; no agent's name is in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub driver: Option<Identity>,
    /// Where agents listen, as `host:port`.
    #[serde(default)]
    pub agents: Vec<String>,
}

impl AccessFile {
    /// Makes an authority, has it sign for agents and for drivers, and forgets its
    /// key: it signs nothing else, ever.
    ///
    /// # Errors
    /// When there are no random numbers, or the machine's clock makes no sense.
    pub fn generate() -> Result<Self, AccessError> {
        let Signed { authority, agent, driver } = Signed::new()?;
        let token = Token::random().map_err(|error| AccessError::unusable("a token", error))?;
        Ok(Self {
            version: VERSION,
            authority: Some(authority),
            server_name: Some(SERVER_NAME.to_owned()),
            token,
            agent: Some(agent),
            driver: Some(driver),
            agents: Vec::new(),
        })
    }

    /// One with a token alone, for callers to fill.
    pub const fn of_token(token: Token) -> Self {
        Self {
            version: VERSION,
            authority: None,
            server_name: None,
            token,
            agent: None,
            driver: None,
            agents: Vec::new(),
        }
    }

    /// A copy with which nobody can pass for an agent.
    #[must_use]
    pub fn for_drivers(mut self) -> Self {
        self.agent = None;
        self
    }

    /// The text of it, secrets and all.
    pub fn text(&self) -> Zeroizing<String> {
        // Strings and lists of them are always JSON.
        let mut text = Zeroizing::new(serde_json::to_string_pretty(self).unwrap_or_default());
        text.push('\n');
        text
    }

    /// Reads the text of one; the error does not repeat it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        // Positions, and no values: those may be secrets.
        let place = |error: &serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            format!("{:?} error at line {line}, column {column}", error.classify())
        };
        let Versioned { version } = serde_json::from_str(text).map_err(|error| place(&error))?;
        if version != VERSION {
            return Err(format!("it has version {version}, and this build reads {VERSION}"));
        }
        serde_json::from_str(text).map_err(|error| place(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_it_was_written_and_prints_no_secret() {
        let file = AccessFile::generate().unwrap();
        let text = serde_json::to_string_pretty(&file).unwrap();
        let read = AccessFile::parse(&text).unwrap();
        assert!(read.token.is(&file.token));
        let printed = format!("{read:?}");
        let key = read.agent.unwrap().key;
        let digits = read.token.text();
        assert!(!printed.contains(&*digits) && !printed.contains("PRIVATE"), "{printed}");
        assert!(key.expose().contains("PRIVATE KEY"));
    }

    #[test]
    fn a_driver_gets_no_agents_key() {
        let text = serde_json::to_string(&AccessFile::generate().unwrap().for_drivers()).unwrap();
        assert_eq!(text.matches("PRIVATE KEY").count(), 2, "begin and end of one key");
        assert!(AccessFile::parse(&text).unwrap().agent.is_none());
    }

    #[test]
    fn another_version_and_no_json_are_refused_without_a_word_of_them() {
        assert!(AccessFile::parse(r#"{"version": 2, "x": 1}"#).unwrap_err().contains("version 2"));
        let secret = r#"{"version": 1, "token": "0123abcd"}"#;
        let why = AccessFile::parse(secret).unwrap_err();
        assert!(!why.contains("0123"), "{why}");
    }
}
